/*
 * Writes HTTP/1.x messages into the caller's memory, and refuses whatever would make the other side
 * read something else than was meant: line ends and controls in a line, names that are no tokens,
 * targets with blanks (KHP H3).
 */
#ifndef KHP_HTTP_WRITER_H
#define KHP_HTTP_WRITER_H

#include "http/error.h"
#include "http/text.h"

/*
 * Start with a start line; then fields; then end. What does not fit is counted, not written: when
 * `size` is above `capacity` at the end, do it again with that much room. The first error stays,
 * and nothing is written after it.
 */
struct khp_http_writer {
    char *bytes;
    size_t capacity, size;
    enum khp_http_error error;
};

/* version: "1.1", or another "1.x". */
void khp_http_write_request_line(struct khp_http_writer *writer, struct khp_http_slice method,
                                 struct khp_http_slice target, struct khp_http_slice version);

/* status: 100 to 999. The reason may be empty. */
void khp_http_write_status_line(struct khp_http_writer *writer, struct khp_http_slice version,
                                int status, struct khp_http_slice reason);

void khp_http_write_field(struct khp_http_writer *writer, struct khp_http_slice name,
                          struct khp_http_slice value);

void khp_http_write_length(struct khp_http_writer *writer, size_t length);

/* The empty line and the body, as it is. */
void khp_http_write_end(struct khp_http_writer *writer, struct khp_http_slice body);

#endif
