/*
 * What the files about the userdata "khp.conn" share: the userdata itself, and what is heard of its
 * connection. For csrc/lua alone.
 */
#ifndef LKHP_CONN_H
#define LKHP_CONN_H

#include "lua/lkhp.h"

/*
 * User values: the fields that users see, the function for messages, the table of functions for all
 * other events, by name, the state that lua/khp keeps for itself, and the pipeline of extensions.
 */
enum {
    LKHP_FIELDS = 1,
    LKHP_ON_MESSAGE,
    LKHP_EVENTS,
    LKHP_STATE,
    LKHP_PIPE,
    LKHP_USER_VALUES = LKHP_PIPE
};

struct lkhp_conn {
    struct khp_conn conn;
    struct lkhp_loop *loop;
    int reference; /* in the registry while the stream lives, else LUA_NOREF */
    bool piped;    /* messages go through the pipeline, both ways */
};

/* Its owner is a struct lkhp_conn. */
extern const struct khp_conn_handler lkhp_conn_handler;

extern const luaL_Reg lkhp_conn_send_functions[], lkhp_conn_pipe_functions[];

/*
 * The connection at index 1; anything else throws. Told from other userdata by its size and its
 * handler: a short message would feel the price of luaL_checkudata's search by name.
 */
struct lkhp_conn *lkhp_conn_check(lua_State *L);

/* Pushes nil, "closed", "ECLOSED", fields.closed; 4. The connection is at index 1. */
int lkhp_conn_closed(lua_State *L);

/* Pushes what a send returns: true | nil, message, code, detail. The connection is at index 1. */
int lkhp_conn_sent(lua_State *L, enum khp_conn_send result);

/* Is the kind at index "text", also where there is none? "binary": no; anything else throws. */
bool lkhp_is_text(lua_State *L, int index);

bool lkhp_is_utf8(const char *text, size_t n);

/* Pushes the name of a message's kind. */
void lkhp_push_kind(lua_State *L, const struct lkhp_loop *loop, bool text);

#endif
