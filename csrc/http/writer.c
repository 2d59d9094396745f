/*
 * Puts messages together, piece by piece, each checked first. Knows nothing of which fields belong
 * in a message.
 */
#include "http/writer.h"

#include <string.h>

/* Room for n bytes, or NULL where they are only counted. */
static char *reserve(struct khp_http_writer *writer, size_t n) {
    bool fits = writer->size <= writer->capacity && n <= writer->capacity - writer->size;
    char *room = fits ? writer->bytes + writer->size : NULL;
    writer->size += n;
    return room;
}

static void put(struct khp_http_writer *writer, const char *bytes, size_t n) {
    char *room = reserve(writer, n);
    if (room != NULL && n > 0)
        memcpy(room, bytes, n);
}

static void put_slice(struct khp_http_writer *writer, struct khp_http_slice slice) {
    put(writer, slice.at, slice.size);
}

/* May the pieces that follow be written? Keeps the first error. */
static bool check(struct khp_http_writer *writer, bool good, enum khp_http_error error) {
    if (writer->error == KHP_HTTP_E_NONE && !good)
        writer->error = error;
    return writer->error == KHP_HTTP_E_NONE;
}

static bool is_text(struct khp_http_slice slice) {
    const char *end = slice.at + slice.size;
    return khp_http_skip_text(slice.at, end) == end;
}

static bool is_version(struct khp_http_slice version) {
    return version.size == 3 && memcmp(version.at, "1.", 2) == 0 &&
           khp_http_is(version.at[2], KHP_HTTP_DIGIT);
}

void khp_http_write_request_line(struct khp_http_writer *writer, struct khp_http_slice method,
                                 struct khp_http_slice target, struct khp_http_slice version) {
    check(writer, khp_http_all(method.at, method.size, KHP_HTTP_TOKEN), KHP_HTTP_E_METHOD);
    check(writer,
          khp_http_all(target.at, target.size, KHP_HTTP_VISIBLE) &&
              memchr(target.at, '#', target.size) == NULL,
          KHP_HTTP_E_TARGET);
    if (!check(writer, is_version(version), KHP_HTTP_E_VERSION))
        return;
    put_slice(writer, method);
    put(writer, " ", 1);
    put_slice(writer, target);
    put(writer, " HTTP/", 6);
    put_slice(writer, version);
    put(writer, "\r\n", 2);
}

void khp_http_write_status_line(struct khp_http_writer *writer, struct khp_http_slice version,
                                int status, struct khp_http_slice reason) {
    check(writer, is_version(version), KHP_HTTP_E_VERSION);
    check(writer, status >= 100 && status <= 999, KHP_HTTP_E_STATUS);
    if (!check(writer, is_text(reason), KHP_HTTP_E_REASON))
        return;
    char code[5] = {' ', (char)('0' + status / 100), (char)('0' + status / 10 % 10),
                    (char)('0' + status % 10), ' '};
    put(writer, "HTTP/", 5);
    put_slice(writer, version);
    put(writer, code, sizeof code);
    put_slice(writer, reason);
    put(writer, "\r\n", 2);
}

void khp_http_write_field(struct khp_http_writer *writer, struct khp_http_slice name,
                          struct khp_http_slice value) {
    check(writer, khp_http_all(name.at, name.size, KHP_HTTP_TOKEN), KHP_HTTP_E_NAME);
    if (!check(writer, is_text(value), KHP_HTTP_E_VALUE))
        return;
    value = khp_http_trim(value);
    char *room = reserve(writer, name.size + value.size + 4);
    if (room == NULL)
        return;
    memcpy(room, name.at, name.size);
    room += name.size;
    *room++ = ':';
    *room++ = ' ';
    if (value.size > 0)
        memcpy(room, value.at, value.size);
    room += value.size;
    room[0] = '\r';
    room[1] = '\n';
}

void khp_http_write_length(struct khp_http_writer *writer, size_t length) {
    char digits[24];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + length % 10);
    while ((length /= 10) > 0);
    khp_http_write_field(writer, (struct khp_http_slice){"Content-Length", 14},
                         (struct khp_http_slice){digits + at, sizeof digits - at});
}

void khp_http_write_end(struct khp_http_writer *writer, struct khp_http_slice body) {
    if (!check(writer, true, KHP_HTTP_E_NONE))
        return;
    put(writer, "\r\n", 2);
    put_slice(writer, body);
}
