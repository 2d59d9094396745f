/*
 * Decides from a head where the message ends (RFC 2616 4.4). Whatever two readers could understand
 * differently is refused, since that is how requests are smuggled (RFC 7230 9.5). Knows nothing of
 * the body's bytes.
 */
#include "http/body.h"

#include "http/grammar.h"

bool khp_http_read_length(struct khp_http_slice value, uint64_t *length) {
    if (!khp_http_all(value.at, value.size, KHP_HTTP_DIGIT))
        return false;
    *length = 0;
    for (size_t i = 0; i < value.size; i++) {
        uint64_t digit = (uint64_t)(value.at[i] - '0');
        *length = *length > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *length * 10 + digit;
    }
    return true;
}

/* Counts the codings of one Transfer-Encoding field; only `chunked`, once and alone, is spoken
 * here. */
static enum khp_http_error read_codings(struct khp_http_slice value, unsigned *chunked) {
    struct khp_http_cursor cursor = khp_http_cursor(value);
    struct khp_http_slice coding;
    enum khp_http_item item;
    bool any = false;
    while ((item = khp_http_next_token(&cursor, &coding)) == KHP_HTTP_ITEM) {
        if (!khp_http_equals(coding, "chunked"))
            return KHP_HTTP_E_CODING;
        any = true;
        ++*chunked;
    }
    return item == KHP_HTTP_END && any ? KHP_HTTP_E_NONE : KHP_HTTP_E_CODING_FORM;
}

/* Whatever the fields say, these have none (RFC 2616 4.4, 1). */
static bool has_no_body(const struct khp_http_head *head) {
    return head->kind == KHP_HTTP_RESPONSE &&
           (head->status < 200 || head->status == 204 || head->status == 304);
}

enum khp_http_error khp_http_framing(const struct khp_http_head *head, const char *bytes,
                                     bool *chunked, uint64_t *length) {
    bool has_length = false;
    unsigned codings = 0;
    *chunked = false;
    *length = 0;
    for (uint32_t i = 0; i < head->field_count; i++) {
        const struct khp_http_field *field = head->fields + i;
        if (field->name.size != 14 && field->name.size != 17)
            continue;
        struct khp_http_slice name = khp_http_slice(bytes, field->name);
        struct khp_http_slice value = khp_http_slice(bytes, field->value);
        if (khp_http_equals(name, "Content-Length")) {
            uint64_t again = *length;
            if (!khp_http_read_length(value, length))
                return KHP_HTTP_E_LENGTH;
            if (has_length && *length != again) /* RFC 7230 3.3.3, 4 */
                return KHP_HTTP_E_LENGTHS;
            has_length = true;
        } else if (khp_http_equals(name, "Transfer-Encoding")) {
            enum khp_http_error error = read_codings(value, &codings);
            if (error != KHP_HTTP_E_NONE)
                return error;
        }
    }
    if (codings > 0 && has_length)
        return KHP_HTTP_E_LENGTH_AND_CODING;
    if (codings > 1) /* RFC 7230 3.3.1 */
        return KHP_HTTP_E_CODING_FORM;
    if (codings > 0 && head->minor == 0) /* RFC 9112 6.1 */
        return KHP_HTTP_E_CODING_VERSION;
    *chunked = codings > 0 && !has_no_body(head);
    if (has_no_body(head))
        *length = 0;
    return KHP_HTTP_E_NONE;
}
