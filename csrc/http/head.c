/*
 * Scans the head line by line and, inside a line, to the next character that means something. Knows
 * nothing of what start lines and fields say.
 */
#include "http/head.h"

#include <string.h>

#include "http/line.h"

static void set_state(struct khp_http_head *head, enum khp_http_head_state state) {
    head->state = state;
}

static enum khp_http_progress fail(struct khp_http_head *head, enum khp_http_error error) {
    head->error = error;
    set_state(head, KHP_HTTP_HEAD_FAILED);
    return KHP_HTTP_FAILED;
}

void khp_http_head_init(struct khp_http_head *head, enum khp_http_kind kind,
                        const struct khp_http_limits *limits, struct khp_http_field *fields) {
    *head = (struct khp_http_head){.kind = kind, .fields = fields, .limits = limits};
    set_state(head, KHP_HTTP_HEAD_START);
}

/* Is there a line end at `at`? *next: what follows it. MORE: its second byte is missing. */
static enum khp_http_progress read_line_end(struct khp_http_head *head, const char *at,
                                            const char *end, const char **next) {
    if (*at == '\n') {
        if (head->limits->strict)
            return fail(head, KHP_HTTP_E_BARE_LF);
        *next = at + 1; /* RFC 2616 19.3 */
        return KHP_HTTP_DONE;
    }
    if (*at != '\r')
        return fail(head, KHP_HTTP_E_CONTROL);
    if (end - at < 2)
        return KHP_HTTP_MORE;
    if (at[1] != '\n')
        return fail(head, KHP_HTTP_E_BARE_CR);
    *next = at + 2;
    return KHP_HTTP_DONE;
}

/* As early as possible, so that nobody waits for the end of a line that never comes. */
static bool can_begin(enum khp_http_kind kind, const char *at, size_t n) {
    if (kind == KHP_HTTP_REQUEST)
        return khp_http_is(*at, KHP_HTTP_TOKEN);
    return memcmp(at, "HTTP/", n < 5 ? n : 5) == 0;
}

/* A line of a field's value, [at, end): the first one or a further one (RFC 2616 2.2). */
static void add_value(struct khp_http_field *field, const char *bytes, const char *at,
                      const char *end) {
    while (at < end && khp_http_is_blank(*at))
        at++;
    while (at < end && khp_http_is_blank(end[-1]))
        end--;
    if (at == end)
        return;
    if (field->value.size == 0)
        field->value.at = (uint32_t)(at - bytes);
    else
        field->folded = true;
    field->value.size = (uint32_t)(end - bytes) - field->value.at;
}

/*
 * Reads up to the end of the current line, or to `end` if that comes first. MORE: nothing more can
 * be said before there are further bytes; head->at stands where to go on. DONE: the line was read.
 */
static enum khp_http_progress read_start(struct khp_http_head *head, const char *bytes,
                                         const char *end) {
    const char *at = bytes + head->at, *next = at;
    enum khp_http_progress progress;

    if (head->state == KHP_HTTP_HEAD_START) {
        if (at == end)
            return KHP_HTTP_MORE;
        if (*at == '\r' || *at == '\n') { /* RFC 2616 4.1 */
            progress = read_line_end(head, at, end, &next);
            if (progress == KHP_HTTP_DONE)
                head->at = head->line = (uint32_t)(next - bytes);
            return progress;
        }
        set_state(head, KHP_HTTP_HEAD_START_LINE);
    }
    if (!can_begin(head->kind, bytes + head->line, (size_t)(end - bytes) - head->line))
        return fail(head,
                    head->kind == KHP_HTTP_REQUEST ? KHP_HTTP_E_METHOD : KHP_HTTP_E_STATUS_LINE);
    at = khp_http_skip_text(at, end);
    head->at = (uint32_t)(at - bytes);
    if (at == end)
        return KHP_HTTP_MORE;
    progress = read_line_end(head, at, end, &next);
    if (progress != KHP_HTTP_DONE)
        return progress;
    struct khp_http_range line = {head->line, head->at - head->line};
    enum khp_http_error error = head->kind == KHP_HTTP_REQUEST
                                    ? khp_http_request_line(head, bytes, line)
                                    : khp_http_status_line(head, bytes, line);
    if (error != KHP_HTTP_E_NONE)
        return fail(head, error);
    head->at = head->line = (uint32_t)(next - bytes);
    set_state(head, KHP_HTTP_HEAD_FIELD_START);
    return KHP_HTTP_DONE;
}

/* Likewise with the lines after the first. */
static enum khp_http_progress read_field(struct khp_http_head *head, const char *bytes,
                                         const char *end) {
    const char *at = bytes + head->at, *next = at;
    struct khp_http_field *field = head->fields + head->field_count;
    enum khp_http_progress progress;

    if (head->state == KHP_HTTP_HEAD_FIELD_START) {
        if (at == end)
            return KHP_HTTP_MORE;
        if (*at == '\r' || *at == '\n') {
            progress = read_line_end(head, at, end, &next);
            if (progress == KHP_HTTP_DONE) {
                head->at = head->size = (uint32_t)(next - bytes);
                set_state(head, KHP_HTTP_HEAD_DONE);
            }
            return progress;
        }
        if (khp_http_is_blank(*at)) {
            if (head->field_count == 0)
                return fail(head, KHP_HTTP_E_FOLD);
            set_state(head, KHP_HTTP_HEAD_FOLD);
        } else {
            if (head->field_count == head->limits->fields)
                return fail(head, KHP_HTTP_E_FIELDS_LIMIT);
            set_state(head, KHP_HTTP_HEAD_NAME);
        }
    }
    if (head->state == KHP_HTTP_HEAD_NAME) {
        while (at < end && khp_http_is(*at, KHP_HTTP_TOKEN))
            at++;
        head->at = (uint32_t)(at - bytes);
        if (at == end)
            return KHP_HTTP_MORE;
        if (*at != ':' || head->at == head->line) /* RFC 7230 3.2.4 */
            return fail(head,
                        khp_http_is_blank(*at) ? KHP_HTTP_E_BLANK_BEFORE_COLON : KHP_HTTP_E_NAME);
        field->name = (struct khp_http_range){head->line, head->at - head->line};
        field->value = (struct khp_http_range){head->at + 1, 0};
        field->folded = false;
        at++;
        set_state(head, KHP_HTTP_HEAD_VALUE);
    }
    at = khp_http_skip_text(at, end);
    head->at = (uint32_t)(at - bytes);
    if (at == end)
        return KHP_HTTP_MORE;
    progress = read_line_end(head, at, end, &next);
    if (progress != KHP_HTTP_DONE)
        return progress;
    if (head->state == KHP_HTTP_HEAD_VALUE) {
        add_value(field, bytes, bytes + field->value.at, at);
        head->field_count++;
    } else {
        add_value(field - 1, bytes, bytes + head->line, at);
    }
    head->at = head->line = (uint32_t)(next - bytes);
    set_state(head, KHP_HTTP_HEAD_FIELD_START);
    return KHP_HTTP_DONE;
}

enum khp_http_progress khp_http_head_parse(struct khp_http_head *head, const char *bytes,
                                           size_t n) {
    while (head->state != KHP_HTTP_HEAD_DONE) {
        if (head->state == KHP_HTTP_HEAD_FAILED)
            return KHP_HTTP_FAILED;
        /* No line is looked at beyond what the limits allow it, so they hold wherever the splits
         * fall. */
        bool start = head->state <= KHP_HTTP_HEAD_START_LINE;
        size_t line_end = (size_t)head->line + head->limits->line;
        size_t allowed = line_end < head->limits->head ? line_end : head->limits->head;
        const char *end = bytes + (n < allowed ? n : allowed);
        enum khp_http_progress progress =
            start ? read_start(head, bytes, end) : read_field(head, bytes, end);
        if (progress == KHP_HTTP_MORE) {
            if (n <= allowed)
                return KHP_HTTP_MORE;
            if (allowed == head->limits->head)
                return fail(head, KHP_HTTP_E_HEAD_LIMIT);
            return fail(head, start ? KHP_HTTP_E_START_LINE_LIMIT : KHP_HTTP_E_LINE_LIMIT);
        }
    }
    return KHP_HTTP_DONE;
}

size_t khp_http_unfold(char *out, const char *value, size_t n) {
    size_t size = 0;
    for (size_t i = 0; i < n;) {
        if (value[i] != '\r' && value[i] != '\n') {
            out[size++] = value[i++];
            continue;
        }
        while (size > 0 && khp_http_is_blank(out[size - 1]))
            size--;
        while (khp_http_is_blank(value[i]) || value[i] == '\r' || value[i] == '\n')
            i++; /* a value does not end in blanks */
        out[size++] = ' ';
    }
    return size;
}
