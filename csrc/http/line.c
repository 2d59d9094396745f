/*
 * Reads start lines: method, request target in its four forms, version, status, reason. Knows
 * nothing of the lines after the first.
 */
#include "http/line.h"

#include <string.h>

/* HTTP-Version with numbers up to 9 digits, leading zeros without meaning (RFC 2616 3.1). Returns
 * its end or NULL. */
static const char *read_version(const char *at, const char *end, uint32_t *major, uint32_t *minor) {
    if (end - at < 8 || memcmp(at, "HTTP/", 5) != 0)
        return NULL;
    at += 5;
    for (int part = 0; part < 2; part++) {
        const char *first = at;
        uint32_t number = 0;
        while (at < end && khp_http_is(*at, KHP_HTTP_DIGIT) && at - first < 9)
            number = number * 10 + (uint32_t)(*at++ - '0');
        if (at == first)
            return NULL;
        if (part == 0) {
            *major = number;
            if (at == end || *at++ != '.')
                return NULL;
        } else {
            *minor = number;
        }
    }
    return at;
}

static bool is_scheme(const char *at, const char *end) {
    if (at == end || khp_http_lower(*at) < 'a' || khp_http_lower(*at) > 'z')
        return false;
    for (; at < end; at++) {
        if (!khp_http_is(*at, KHP_HTTP_TOKEN68) || *at == '/' || *at == '_' || *at == '~')
            return false;
    }
    return true;
}

/* Divides the target in path and query (RFC 2616 5.1.2). */
static bool read_target(struct khp_http_head *head, const char *bytes) {
    const char *at = bytes + head->target.at, *end = at + head->target.size;
    head->path = head->query = (struct khp_http_range){head->target.at, 0};
    head->has_query = false;
    if (at == end)
        return false;
    bool connect = head->method.size == 7 && memcmp(bytes + head->method.at, "CONNECT", 7) == 0;
    if (connect) {
        head->form = KHP_HTTP_AUTHORITY;
        return memchr(at, '/', head->target.size) == NULL &&
               memchr(at, '?', head->target.size) == NULL;
    }
    if (*at == '*') {
        head->form = KHP_HTTP_ASTERISK;
        head->path.size = 1;
        return head->target.size == 1;
    }
    head->form = KHP_HTTP_ORIGIN;
    if (*at != '/') {
        const char *colon = memchr(at, ':', head->target.size);
        if (colon == NULL || !is_scheme(at, colon) || end - colon < 4 ||
            memcmp(colon, "://", 3) != 0)
            return false;
        head->form = KHP_HTTP_ABSOLUTE;
        at = colon + 3;
        if (*at == '/' || *at == '?')
            return false;
        while (at < end && *at != '/' && *at != '?')
            at++;
    }
    const char *mark = memchr(at, '?', (size_t)(end - at));
    const char *path_end = mark != NULL ? mark : end;
    head->path = (struct khp_http_range){(uint32_t)(at - bytes), (uint32_t)(path_end - at)};
    if (mark != NULL) {
        head->has_query = true;
        head->query =
            (struct khp_http_range){(uint32_t)(mark + 1 - bytes), (uint32_t)(end - mark - 1)};
    }
    return true;
}

enum khp_http_error khp_http_request_line(struct khp_http_head *head, const char *bytes,
                                          struct khp_http_range line) {
    const char *at = bytes + line.at, *end = at + line.size, *first = at;
    while (at < end && khp_http_is(*at, KHP_HTTP_TOKEN))
        at++;
    if (at == first || at == end || *at != ' ')
        return KHP_HTTP_E_METHOD;
    head->method = (struct khp_http_range){line.at, (uint32_t)(at - first)};

    first = ++at;
    while (at < end && khp_http_is(*at, KHP_HTTP_URI))
        at++;
    if (at == end)
        return KHP_HTTP_E_VERSION_FORM; /* HTTP/0.9 included */
    if (*at != ' ')                     /* a fragment never goes over the wire: RFC 3986 4.3 */
        return KHP_HTTP_E_TARGET;
    head->target = (struct khp_http_range){(uint32_t)(first - bytes), (uint32_t)(at - first)};
    if (!read_target(head, bytes))
        return KHP_HTTP_E_TARGET;

    if (read_version(at + 1, end, &head->major, &head->minor) != end)
        return KHP_HTTP_E_VERSION_FORM;
    return head->major == 1 ? KHP_HTTP_E_NONE : KHP_HTTP_E_VERSION; /* RFC 2145 2.3 */
}

enum khp_http_error khp_http_status_line(struct khp_http_head *head, const char *bytes,
                                         struct khp_http_range line) {
    const char *at = bytes + line.at, *end = at + line.size;
    at = read_version(at, end, &head->major, &head->minor);
    if (at == NULL)
        return KHP_HTTP_E_VERSION_FORM;
    if (end - at < 4 || *at != ' ' || !khp_http_all(at + 1, 3, KHP_HTTP_DIGIT) || at[1] == '0')
        return KHP_HTTP_E_STATUS;
    head->status = (at[1] - '0') * 100 + (at[2] - '0') * 10 + (at[3] - '0');
    at += 4;
    if (at < end && *at++ != ' ') /* the space before an empty reason phrase is often left out */
        return KHP_HTTP_E_STATUS;
    head->reason = (struct khp_http_range){(uint32_t)(at - bytes), (uint32_t)(end - at)};
    return head->major == 1 ? KHP_HTTP_E_NONE : KHP_HTTP_E_VERSION;
}
