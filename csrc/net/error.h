/*
 * Why something in csrc/net failed or ended, in a form that can be shown to a person and branched
 * on.
 */
#ifndef KHP_NET_ERROR_H
#define KHP_NET_ERROR_H

enum khp_net_code {
    KHP_NET_OK = 0,
    KHP_NET_E_CONNECT, /* no address, refused, unreachable, no such socket file */
    KHP_NET_E_TLS,     /* handshake, certificate, record: the text has OpenSSL's words */
    KHP_NET_E_TIMEOUT, /* a deadline given by the caller passed */
    KHP_NET_E_CLOSED,  /* the peer ended it: in order (FIN, close_notify) or by reset; see text */
    KHP_NET_E_LOCAL,   /* this side closed or aborted it */
    KHP_NET_E_LIMIT,   /* a bound of ours: descriptors, memory */
    KHP_NET_E_SYSTEM   /* the operating system refused: bind, listen, socket */
};

enum { KHP_NET_TEXT_MAX = 256 };

struct khp_net_error {
    enum khp_net_code code;
    int sys;                     /* errno where there is one, else 0 */
    char text[KHP_NET_TEXT_MAX]; /* one line, no final stop: "Connection refused" */
};

/* Fills *e (ignored when NULL); printf-like. */
void khp_net_error_set(struct khp_net_error *e, enum khp_net_code code, int sys, const char *format,
                       ...) __attribute__((format(printf, 4, 5)));

#endif
