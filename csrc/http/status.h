/*
 * The standard phrases of status codes.
 */
#ifndef KHP_HTTP_STATUS_H
#define KHP_HTTP_STATUS_H

/* A constant; "" for a status that has none. */
const char *khp_http_reason(int status);

#endif
