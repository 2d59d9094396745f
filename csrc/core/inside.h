/*
 * What the files of csrc/core have of one another: connection.c (its states, its end, its timers),
 * receive.c. For nobody else.
 */
#ifndef KHP_CORE_INSIDE_H
#define KHP_CORE_INSIDE_H

#include "core/connection.h"

/* connection.c. RFC 6455 7.1.7, _Fail the WebSocket Connection_: says why, and goes without waiting
 * for an answer. */
void khp_conn_fail(struct khp_conn *conn, unsigned code, enum khp_conn_by by, const char *text);

/* connection.c. The peer's close frame. */
void khp_conn_close_received(struct khp_conn *conn, const struct khp_ws_message *message);

/* receive.c. Bytes of frames came. They may be overwritten. */
void khp_conn_receive(struct khp_conn *conn, uint8_t *bytes, size_t n);

/* receive.c. Goes on with what was held, if anything was. */
void khp_conn_release(struct khp_conn *conn);

/* receive.c. The same for what was held because of a pause that is over; reading goes on, and
 * keepalive begins anew. true: there was something. */
bool khp_conn_release_paused(struct khp_conn *conn);

#endif
