/*
 * What the files of khp.http share. Every function of the module carries the same upvalues: the
 * metatable of all headers objects, the memory of header names, the metatables of parsers and of
 * checked limits. Nothing here knows of sockets or connections.
 */
#ifndef LKHP_HTTP_H
#define LKHP_HTTP_H

#include <lauxlib.h>
#include <lua.h>

#include "http/body.h"
#include "http/head.h"

/* The upvalues of every function in these tables. */
enum { LKHP_HTTP_UPVALUES = 5 };
#define LKHP_HTTP_HEADERS lua_upvalueindex(1) /* metatable */
#define LKHP_HTTP_NAMES   lua_upvalueindex(2) /* userdata: see http_headers.c */
#define LKHP_HTTP_STRINGS lua_upvalueindex(3) /* table: likewise */
#define LKHP_HTTP_PARSER  lua_upvalueindex(4) /* metatable of parsers */
#define LKHP_HTTP_LIMITS  lua_upvalueindex(5) /* metatable of checked limits */

/* The functions, by file. */
extern const luaL_Reg lkhp_http_headers_functions[];
extern const luaL_Reg lkhp_http_message_functions[];
extern const luaL_Reg lkhp_http_write_functions[];
extern const luaL_Reg lkhp_http_grammar_functions[];
extern const luaL_Reg lkhp_http_parser_functions[];
extern const luaL_Reg lkhp_http_parser_methods[];

/* Pushes the first three upvalues, in order. May throw. */
void lkhp_http_push_headers_upvalues(lua_State *L);

/* Pushes the metatable of parsers, without its methods. May throw. */
void lkhp_http_push_parser_metatable(lua_State *L);

/* Pushes the headers object of a parsed head. May throw. */
void lkhp_http_push_headers(lua_State *L, const struct khp_http_head *head, const char *bytes);

/* Pushes the text in lower case. May throw. */
void lkhp_http_push_lower(lua_State *L, const char *text, size_t n);

/* Pushes the message table of a parsed head, without body. May throw. */
void lkhp_http_push_message(lua_State *L, const struct khp_http_head *head, const char *bytes);

/* Pushes nil, message, code, detail; returns 4. May throw. */
int lkhp_http_push_failure(lua_State *L, enum khp_http_error error);

/* Pushes the metatable of checked limits. May throw. */
void lkhp_http_push_limits_metatable(lua_State *L);

/* Pushes http.date, which keeps the present second's date. May throw. */
void lkhp_http_push_date(lua_State *L);

/* Reads the limits at an argument, if there are any: checked ones as they are, a table over the
 * defaults. Throws on what it does not know. */
void lkhp_http_check_limits(lua_State *L, int arg, struct khp_http_limits *limits);

#endif
