/*
 * The start lines: Request-Line and Status-Line (RFC 2616 5.1, 6.1). Works on a whole line, once.
 */
#ifndef KHP_HTTP_LINE_H
#define KHP_HTTP_LINE_H

#include "http/head.h"

/*
 * Reads the line [at, at + size) of bytes, its end not included, into the results of head. The line
 * has no control characters but tabs.
 */
enum khp_http_error khp_http_request_line(struct khp_http_head *head, const char *bytes,
                                          struct khp_http_range line);
enum khp_http_error khp_http_status_line(struct khp_http_head *head, const char *bytes,
                                         struct khp_http_range line);

#endif
