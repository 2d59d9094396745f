/*
 * permessage-deflate (RFC 7692 7.2) on zlib. Sans-I/O; knows no sockets and no Lua.
 */
#ifndef KHP_WS_DEFLATE_H
#define KHP_WS_DEFLATE_H

/* Of the zlib that is loaded. */
const char *khp_ws_deflate_version(void);

#endif
