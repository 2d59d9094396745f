/*
 * What can be wrong with an HTTP message, each with a text for people and the status that a server
 * answers with.
 */
#ifndef KHP_HTTP_ERROR_H
#define KHP_HTTP_ERROR_H

#include <stdbool.h>

enum khp_http_error {
    KHP_HTTP_E_NONE,
    /* the start line */
    KHP_HTTP_E_METHOD,
    KHP_HTTP_E_TARGET,
    KHP_HTTP_E_VERSION_FORM,
    KHP_HTTP_E_VERSION, /* well-formed, but not 1.x */
    KHP_HTTP_E_STATUS_LINE,
    KHP_HTTP_E_STATUS,
    /* lines and fields */
    KHP_HTTP_E_CONTROL,
    KHP_HTTP_E_BARE_CR,
    KHP_HTTP_E_BARE_LF,
    KHP_HTTP_E_FOLD,
    KHP_HTTP_E_NAME,
    KHP_HTTP_E_BLANK_BEFORE_COLON,
    /* the body */
    KHP_HTTP_E_LENGTH,
    KHP_HTTP_E_LENGTHS,
    KHP_HTTP_E_LENGTH_AND_CODING,
    KHP_HTTP_E_CODING_FORM,
    KHP_HTTP_E_CODING_VERSION,
    KHP_HTTP_E_CODING,
    KHP_HTTP_E_CHUNK_SIZE,
    KHP_HTTP_E_CHUNK_EXTENSION,
    KHP_HTTP_E_CHUNK_END,
    KHP_HTTP_E_TRAILER,
    /* limits */
    KHP_HTTP_E_HEAD_LIMIT,
    KHP_HTTP_E_START_LINE_LIMIT,
    KHP_HTTP_E_LINE_LIMIT,
    KHP_HTTP_E_FIELDS_LIMIT,
    KHP_HTTP_E_BODY_LIMIT,
    KHP_HTTP_E_CHUNK_LIMIT,
    /* the writer's own */
    KHP_HTTP_E_VALUE,
    KHP_HTTP_E_REASON,
    KHP_HTTP_E_BODY
};

/* What came of parsing. */
enum khp_http_progress { KHP_HTTP_MORE, KHP_HTTP_DONE, KHP_HTTP_FAILED };

/* For people; a constant. */
const char *khp_http_error_text(enum khp_http_error error);

/* The status to answer a request with that has this error: 400, 413, 414, 431, 501 or 505. */
int khp_http_error_status(enum khp_http_error error);

/* Did the message pass a limit (rather than break a rule)? */
bool khp_http_error_is_limit(enum khp_http_error error);

#endif
