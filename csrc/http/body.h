/*
 * The body of an HTTP/1.x message: how long it is (RFC 2616 4.4), and its bytes out of
 * Content-Length or chunked framing (RFC 2616 3.6.1), as they come. Gives slices of the caller's
 * bytes; allocates nothing.
 */
#ifndef KHP_HTTP_BODY_H
#define KHP_HTTP_BODY_H

#include "http/head.h"

enum khp_http_body_state {
    KHP_HTTP_BODY_DATA,       /* by Content-Length */
    KHP_HTTP_BODY_SIZE_FIRST, /* chunked: before the first digit of a chunk's size */
    KHP_HTTP_BODY_SIZE,
    KHP_HTTP_BODY_SIZE_BLANK,
    KHP_HTTP_BODY_EXTENSION, /* the rest of that line */
    KHP_HTTP_BODY_QUOTED,    /* in a quoted string there */
    KHP_HTTP_BODY_ESCAPED,   /* after a backslash in one */
    KHP_HTTP_BODY_SIZE_LF,
    KHP_HTTP_BODY_CHUNK,
    KHP_HTTP_BODY_CHUNK_CR,
    KHP_HTTP_BODY_CHUNK_LF,
    KHP_HTTP_BODY_TRAILER_START, /* at the beginning of a line after the last chunk */
    KHP_HTTP_BODY_TRAILER_NAME,
    KHP_HTTP_BODY_TRAILER_VALUE,
    KHP_HTTP_BODY_TRAILER_LF,
    KHP_HTTP_BODY_END_LF,
    KHP_HTTP_BODY_DONE,
    KHP_HTTP_BODY_FAILED
};

struct khp_http_body {
    bool chunked;
    uint64_t length; /* by Content-Length: of the whole body; chunked: of the chunks so far */
    enum khp_http_error error; /* when failed */

    const struct khp_http_limits *limits;
    enum khp_http_body_state state;
    uint64_t left;  /* of the body, or of the current chunk */
    uint32_t extra; /* bytes spent on extensions and trailers */
};

/*
 * How the head announces the body (RFC 2616 4.4): *chunked, or *length, 0 when there is none.
 * `bytes` as given to the head's parser. An error: it contradicts itself, or cannot be understood.
 */
enum khp_http_error khp_http_framing(const struct khp_http_head *head, const char *bytes,
                                     bool *chunked, uint64_t *length);

/*
 * Prepares for the body that the parsed head announces; `bytes` as given to its parser. FAILED: the
 * announcement is wrong, or the body too long. A message that has none (1xx, 204, 304, no length)
 * is DONE.
 */
enum khp_http_progress khp_http_body_init(struct khp_http_body *body,
                                          const struct khp_http_head *head, const char *bytes);

/*
 * Takes bytes that follow; *used tells how many, *data which of them belong to the body (perhaps
 * none). MORE: call again, with the rest, or with further bytes when all are used. DONE: that was
 * all; what is not used follows the message. Bytes are never taken beyond the end of the message.
 */
enum khp_http_progress khp_http_body_next(struct khp_http_body *body, const char *bytes, size_t n,
                                          size_t *used, struct khp_http_slice *data);

/* Reads a Content-Length: digits alone. false: something else. What does not fit is UINT64_MAX. */
bool khp_http_read_length(struct khp_http_slice value, uint64_t *length);

#endif
