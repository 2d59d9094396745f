/*
 * Errors in words and as status codes, in one table. Knows nothing of how they come about.
 */
#include "http/error.h"

/* 431: RFC 6585 5. 501: RFC 2616 3.6. 505: RFC 2145 2.3. */
static const struct {
    const char *text;
    int status;
} errors[] = {
    [KHP_HTTP_E_NONE] = {"no error", 400},
    [KHP_HTTP_E_METHOD] = {"the request does not begin with a method", 400},
    [KHP_HTTP_E_TARGET] = {"the request target is malformed", 400},
    [KHP_HTTP_E_VERSION_FORM] = {"the HTTP version is malformed", 400},
    [KHP_HTTP_E_VERSION] = {"the HTTP version is not supported", 505},
    [KHP_HTTP_E_STATUS_LINE] = {"the response does not begin with an HTTP version", 400},
    [KHP_HTTP_E_STATUS] = {"the status code is malformed", 400},
    [KHP_HTTP_E_CONTROL] = {"a line contains a control character", 400},
    [KHP_HTTP_E_BARE_CR] = {"a carriage return is not followed by a line feed", 400},
    [KHP_HTTP_E_BARE_LF] = {"a line feed is not preceded by a carriage return", 400},
    [KHP_HTTP_E_FOLD] = {"the first header line begins with a blank", 400},
    [KHP_HTTP_E_NAME] = {"a header name is malformed", 400},
    [KHP_HTTP_E_BLANK_BEFORE_COLON] = {"there is a blank between a header name and its colon", 400},
    [KHP_HTTP_E_LENGTH] = {"Content-Length is malformed", 400},
    [KHP_HTTP_E_LENGTHS] = {"Content-Length is given twice with different values", 400},
    [KHP_HTTP_E_LENGTH_AND_CODING] = {"Content-Length and Transfer-Encoding exclude each other",
                                      400},
    [KHP_HTTP_E_CODING_FORM] = {"Transfer-Encoding is malformed", 400},
    [KHP_HTTP_E_CODING_VERSION] = {"Transfer-Encoding needs HTTP/1.1", 400},
    [KHP_HTTP_E_CODING] = {"the transfer coding is not supported", 501},
    [KHP_HTTP_E_CHUNK_SIZE] = {"a chunk size is malformed", 400},
    [KHP_HTTP_E_CHUNK_EXTENSION] = {"a chunk extension is malformed", 400},
    [KHP_HTTP_E_CHUNK_END] = {"a chunk does not end with a line end", 400},
    [KHP_HTTP_E_TRAILER] = {"a trailer is malformed", 400},
    [KHP_HTTP_E_HEAD_LIMIT] = {"the head is too long", 431},
    [KHP_HTTP_E_START_LINE_LIMIT] = {"the first line is too long", 414},
    [KHP_HTTP_E_LINE_LIMIT] = {"a header line is too long", 431},
    [KHP_HTTP_E_FIELDS_LIMIT] = {"there are too many headers", 431},
    [KHP_HTTP_E_BODY_LIMIT] = {"the body is too long", 413},
    [KHP_HTTP_E_CHUNK_LIMIT] = {"the chunk extensions and trailers are too long", 413},
    [KHP_HTTP_E_VALUE] = {"a header value contains a control character", 400},
    [KHP_HTTP_E_REASON] = {"the reason phrase contains a control character", 400},
    [KHP_HTTP_E_BODY] = {"a response with this status has no body", 400},
};

const char *khp_http_error_text(enum khp_http_error error) {
    return errors[error].text;
}

int khp_http_error_status(enum khp_http_error error) {
    return errors[error].status;
}

bool khp_http_error_is_limit(enum khp_http_error error) {
    return error >= KHP_HTTP_E_HEAD_LIMIT && error <= KHP_HTTP_E_CHUNK_LIMIT;
}
