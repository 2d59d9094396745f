/*
 * Fuzzes the HTTP codec. The first byte chooses kind, strictness, limits and what to do, the second
 * where to split.
 *
 * Messages: head and body given whole, split once, and byte by byte must come out the same; what
 * was parsed keeps the rules; and what the writer makes of it is read back the same. Values: every
 * reader of the grammar keeps to its bytes and comes to an end, and what can be quoted is unquoted
 * the same.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/body.h"
#include "http/challenge.h"
#include "http/date.h"
#include "http/grammar.h"
#include "http/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

enum { FIELDS = 16, BODY = 4096 };

struct message {
    struct khp_http_head head;
    struct khp_http_field fields[FIELDS];
    struct khp_http_body body;
    enum khp_http_progress head_progress, body_progress;
    size_t used; /* bytes of head and body */
    char text[BODY];
    size_t text_size;
};

/* As many bytes as there are and no more, so that a sanitizer sees a read past them. */
static char *copy(const char *bytes, size_t n) {
    char *exact = malloc(n > 0 ? n : 1);
    REQUIRE(exact != NULL);
    if (n > 0)
        memcpy(exact, bytes, n);
    return exact;
}

static void feed_body(struct message *message, const char *bytes, size_t n) {
    char *exact = copy(bytes, n);
    for (size_t at = 0; at < n && message->body_progress == KHP_HTTP_MORE;) {
        struct khp_http_slice run;
        size_t used = 0;
        message->body_progress =
            khp_http_body_next(&message->body, exact + at, n - at, &used, &run);
        REQUIRE(used <= n - at);
        REQUIRE(used > 0);
        REQUIRE(run.size <= BODY - message->text_size);
        if (run.size > 0) {
            REQUIRE(run.at >= exact + at && run.at + run.size <= exact + at + used);
            memcpy(message->text + message->text_size, run.at, run.size);
        }
        message->text_size += run.size;
        message->used += used;
        at += used;
    }
    free(exact);
}

/* The bytes up to `first`, then in steps of `step`. */
static void parse(struct message *message, enum khp_http_kind kind,
                  const struct khp_http_limits *limits, const char *bytes, size_t n, size_t first,
                  size_t step) {
    memset(message, 0, sizeof *message);
    khp_http_head_init(&message->head, kind, limits, message->fields);
    size_t end = first < n ? first : n;
    for (;;) {
        char *exact = copy(bytes, end);
        message->head_progress = khp_http_head_parse(&message->head, exact, end);
        if (message->head_progress == KHP_HTTP_DONE)
            message->body_progress = khp_http_body_init(&message->body, &message->head, exact);
        free(exact);
        if (message->head_progress != KHP_HTTP_MORE || end == n)
            break;
        end = step < n - end ? end + step : n;
    }
    if (message->head_progress != KHP_HTTP_DONE)
        return;
    REQUIRE(message->head.size <= end);
    message->used = message->head.size;
    feed_body(message, bytes + message->head.size, end - message->head.size);
    while (message->body_progress == KHP_HTTP_MORE && end < n) {
        size_t size = step < n - end ? step : n - end;
        feed_body(message, bytes + end, size);
        end += size;
    }
}

static void same_range(struct khp_http_range a, struct khp_http_range b) {
    REQUIRE(a.at == b.at && a.size == b.size);
}

static void same(const struct message *a, const struct message *b) {
    REQUIRE(a->head_progress == b->head_progress);
    REQUIRE(a->head.error == b->head.error);
    if (a->head_progress != KHP_HTTP_DONE)
        return;
    REQUIRE(a->head.size == b->head.size && a->head.status == b->head.status);
    REQUIRE(a->head.major == b->head.major && a->head.minor == b->head.minor);
    REQUIRE(a->head.form == b->head.form && a->head.has_query == b->head.has_query);
    same_range(a->head.method, b->head.method);
    same_range(a->head.target, b->head.target);
    same_range(a->head.path, b->head.path);
    same_range(a->head.query, b->head.query);
    same_range(a->head.reason, b->head.reason);
    REQUIRE(a->head.field_count == b->head.field_count);
    for (uint32_t i = 0; i < a->head.field_count; i++) {
        same_range(a->fields[i].name, b->fields[i].name);
        same_range(a->fields[i].value, b->fields[i].value);
        REQUIRE(a->fields[i].folded == b->fields[i].folded);
    }
    REQUIRE(a->body_progress == b->body_progress && a->body.error == b->body.error);
    REQUIRE(a->used == b->used && a->text_size == b->text_size);
    REQUIRE(memcmp(a->text, b->text, a->text_size) == 0);
}

static bool within(struct khp_http_range range, const struct khp_http_head *head) {
    return range.at <= head->size && range.size <= head->size - range.at;
}

static struct khp_http_slice unfolded(const struct khp_http_field *field, const char *bytes,
                                      char *out) {
    return (struct khp_http_slice){
        out, khp_http_unfold(out, bytes + field->value.at, field->value.size)};
}

static bool is_text(struct khp_http_slice slice) {
    return slice.size == 0 || khp_http_all(slice.at, slice.size, KHP_HTTP_TEXT);
}

static void keeps_the_rules(const struct message *message, const char *bytes) {
    const struct khp_http_head *head = &message->head;
    char value[BODY];
    REQUIRE(head->size <= head->limits->head && head->field_count <= head->limits->fields);
    REQUIRE(head->major == 1);
    if (head->kind == KHP_HTTP_REQUEST) {
        REQUIRE(within(head->method, head) && within(head->target, head));
        REQUIRE(within(head->path, head) && within(head->query, head));
        REQUIRE(khp_http_all(bytes + head->method.at, head->method.size, KHP_HTTP_TOKEN));
        REQUIRE(khp_http_all(bytes + head->target.at, head->target.size, KHP_HTTP_URI));
    } else {
        REQUIRE(within(head->reason, head) && head->status >= 100 && head->status <= 999);
        REQUIRE(is_text(khp_http_slice(bytes, head->reason)));
    }
    for (uint32_t i = 0; i < head->field_count; i++) {
        const struct khp_http_field *field = head->fields + i;
        REQUIRE(within(field->name, head) && within(field->value, head));
        REQUIRE(khp_http_all(bytes + field->name.at, field->name.size, KHP_HTTP_TOKEN));
        struct khp_http_slice text = unfolded(field, bytes, value);
        REQUIRE(text.size <= field->value.size &&
                (field->folded || text.size == field->value.size));
        REQUIRE(is_text(text));
        REQUIRE(text.size == khp_http_trim(text).size);
    }
    if (message->body_progress == KHP_HTTP_DONE)
        REQUIRE(message->text_size == message->body.length);
    REQUIRE(message->body.length <= head->limits->body ||
            message->body_progress == KHP_HTTP_FAILED);
}

static void write_again(struct khp_http_writer *writer, const struct khp_http_head *head,
                        const char *bytes) {
    static const struct khp_http_slice version = {"1.1", 3};
    if (head->kind == KHP_HTTP_REQUEST)
        khp_http_write_request_line(writer, khp_http_slice(bytes, head->method),
                                    khp_http_slice(bytes, head->target), version);
    else
        khp_http_write_status_line(writer, version, head->status,
                                   khp_http_slice(bytes, head->reason));
    for (uint32_t i = 0; i < head->field_count; i++) {
        char value[BODY];
        khp_http_write_field(writer, khp_http_slice(bytes, head->fields[i].name),
                             unfolded(head->fields + i, bytes, value));
    }
    khp_http_write_end(writer, (struct khp_http_slice){"", 0});
}

static void is_written_the_same(const struct message *message, const char *bytes) {
    const struct khp_http_head *head = &message->head;
    struct khp_http_writer count = {0};
    write_again(&count, head, bytes);
    if (count.error != KHP_HTTP_E_NONE) { /* only a target may be read and not written */
        REQUIRE(count.error == KHP_HTTP_E_TARGET);
        REQUIRE(!khp_http_all(bytes + head->target.at, head->target.size, KHP_HTTP_VISIBLE));
        return;
    }
    char *out = malloc(count.size);
    REQUIRE(out != NULL);
    struct khp_http_writer writer = {.bytes = out, .capacity = count.size};
    write_again(&writer, head, bytes);
    REQUIRE(writer.error == KHP_HTTP_E_NONE && writer.size == count.size);

    static const struct khp_http_limits limits = {1 << 20, 1 << 20, FIELDS, BODY, true};
    struct khp_http_head again;
    struct khp_http_field fields[FIELDS];
    khp_http_head_init(&again, head->kind, &limits, fields);
    REQUIRE(khp_http_head_parse(&again, out, writer.size) == KHP_HTTP_DONE);
    REQUIRE(again.size == writer.size && again.field_count == head->field_count);
    for (uint32_t i = 0; i < head->field_count; i++) {
        char value[BODY];
        struct khp_http_slice text = unfolded(head->fields + i, bytes, value);
        REQUIRE(!fields[i].folded && fields[i].value.size == text.size);
        REQUIRE(memcmp(out + fields[i].value.at, text.at, text.size) == 0);
    }
    free(out);
}

static void fuzz_message(enum khp_http_kind kind, const struct khp_http_limits *limits,
                         size_t split, const char *bytes, size_t n) {
    static struct message whole, parts;
    parse(&whole, kind, limits, bytes, n, n, n);
    if (whole.head_progress == KHP_HTTP_DONE) {
        keeps_the_rules(&whole, bytes);
        is_written_the_same(&whole, bytes);
    }
    parse(&parts, kind, limits, bytes, n, n > 0 ? split % n : 0, n);
    same(&whole, &parts);
    parse(&parts, kind, limits, bytes, n, 0, 1);
    same(&whole, &parts);
}

static struct khp_http_slice all;

static void inside(struct khp_http_slice slice) {
    REQUIRE(slice.size == 0 || (slice.at >= all.at && slice.at + slice.size <= all.at + all.size));
}

static void check_parameter(const struct khp_http_parameter *parameter) {
    char out[BODY];
    inside(parameter->name);
    inside(parameter->value);
    REQUIRE(parameter->name.size > 0);
    if (parameter->quoted)
        REQUIRE(khp_http_unquote(out, parameter->value) <= parameter->value.size);
}

static void fuzz_value(const char *bytes, size_t n) {
    all = (struct khp_http_slice){bytes, n};
    struct khp_http_cursor cursor = khp_http_cursor(all);
    struct khp_http_slice name;
    struct khp_http_parameter parameter;
    struct khp_http_challenge challenge;
    enum khp_http_item item;

    while (khp_http_next_token(&cursor, &name) == KHP_HTTP_ITEM)
        inside(name);

    cursor = khp_http_cursor(all);
    while (khp_http_next_extension(&cursor, &name) == KHP_HTTP_ITEM) {
        inside(name);
        while ((item = khp_http_next_extension_parameter(&cursor, &parameter)) == KHP_HTTP_ITEM)
            check_parameter(&parameter);
        if (item == KHP_HTTP_MALFORMED)
            break;
    }

    cursor = khp_http_cursor(all);
    while (khp_http_next_challenge(&cursor, &challenge) == KHP_HTTP_ITEM) {
        inside(challenge.prefix);
        inside(challenge.scheme);
        inside(challenge.token68);
        while ((item = khp_http_next_challenge_parameter(&cursor, &parameter)) == KHP_HTTP_ITEM)
            check_parameter(&parameter);
        if (item == KHP_HTTP_MALFORMED)
            break;
    }

    if (khp_http_quotable(all)) {
        static char quoted[2 * BODY + 2], text[BODY];
        struct khp_http_slice content;
        size_t size = khp_http_quote(quoted, all);
        cursor = khp_http_cursor((struct khp_http_slice){quoted, size});
        REQUIRE(khp_http_read_quoted(&cursor, &content) && cursor.at == cursor.end);
        REQUIRE(khp_http_unquote(text, content) == n && memcmp(text, bytes, n) == 0);
    }

    int64_t seconds, again;
    char date[KHP_HTTP_DATE_SIZE];
    if (khp_http_date_read(bytes, n, INT64_C(1763800000), &seconds) &&
        khp_http_date_write(seconds, date)) {
        REQUIRE(khp_http_date_read(date, sizeof date, 0, &again) && again == seconds);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > BODY)
        return 0;
    char *bytes = copy((const char *)data + 2, size - 2);
    struct khp_http_limits limits = {.head = 2048, .line = 1024, .fields = FIELDS, .body = BODY};
    if ((data[0] & 4) != 0)
        limits = (struct khp_http_limits){.head = 80, .line = 30, .fields = 3, .body = 10};
    limits.strict = (data[0] & 2) != 0;
    if ((data[0] & 8) != 0)
        fuzz_value(bytes, size - 2);
    else
        fuzz_message((data[0] & 1) != 0 ? KHP_HTTP_RESPONSE : KHP_HTTP_REQUEST, &limits,
                     data[1] * (size_t)5, bytes, size - 2);
    free(bytes);
    return 0;
}
