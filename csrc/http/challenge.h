/*
 * Challenges of WWW-Authenticate and Proxy-Authenticate (RFC 2617 1.2, RFC 7235 2.1), several to a
 * value, with the two-word schemes of Kaazing servers: `Application Basic realm="x"` (KHP H9).
 */
#ifndef KHP_HTTP_CHALLENGE_H
#define KHP_HTTP_CHALLENGE_H

#include "http/grammar.h"

struct khp_http_challenge {
    struct khp_http_slice prefix; /* the word Application as written, or empty */
    struct khp_http_slice scheme;
    struct khp_http_slice token68; /* or empty */
};

/*
 * The next challenge, then, until KHP_HTTP_END, its parameters. Those are to be read before the
 * next challenge. After the prefix, `token68` is whatever is no parameter, up to the next comma:
 * servers put URIs there.
 */
enum khp_http_item khp_http_next_challenge(struct khp_http_cursor *cursor,
                                           struct khp_http_challenge *challenge);
enum khp_http_item khp_http_next_challenge_parameter(struct khp_http_cursor *cursor,
                                                     struct khp_http_parameter *parameter);

#endif
