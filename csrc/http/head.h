/*
 * The head of an HTTP/1.x message: start line and header fields, parsed as the bytes come. The
 * caller keeps the bytes together and hands in all of them each time; the parser remembers how far
 * it has looked, allocates nothing, and gives offsets into the bytes, so they may move between
 * calls. Where the splits fall makes no difference. Knows nothing of what a field means.
 */
#ifndef KHP_HTTP_HEAD_H
#define KHP_HTTP_HEAD_H

#include "http/error.h"
#include "http/limits.h"
#include "http/text.h"

enum khp_http_kind { KHP_HTTP_REQUEST, KHP_HTTP_RESPONSE };

/* Bytes [at, at + size) from the beginning of the message. */
struct khp_http_range {
    uint32_t at, size;
};

struct khp_http_field {
    struct khp_http_range name;  /* a token */
    struct khp_http_range value; /* without the blanks around it */
    bool folded;                 /* the value has line ends in it: see khp_http_unfold */
};

/* RFC 2616 5.1.2. */
enum khp_http_form {
    KHP_HTTP_ORIGIN,    /* /path?query */
    KHP_HTTP_ABSOLUTE,  /* scheme://authority/path?query */
    KHP_HTTP_AUTHORITY, /* host:port, of CONNECT only */
    KHP_HTTP_ASTERISK   /* * */
};

enum khp_http_head_state {
    KHP_HTTP_HEAD_START,       /* before the start line: empty lines are skipped */
    KHP_HTTP_HEAD_START_LINE,  /* in it */
    KHP_HTTP_HEAD_FIELD_START, /* at the beginning of a later line */
    KHP_HTTP_HEAD_NAME,
    KHP_HTTP_HEAD_VALUE,
    KHP_HTTP_HEAD_FOLD, /* in a further line of the last value */
    KHP_HTTP_HEAD_DONE,
    KHP_HTTP_HEAD_FAILED
};

struct khp_http_head {
    /* Results. Those of the other kind of message are not set. */
    enum khp_http_kind kind;
    uint32_t major, minor;
    struct khp_http_range method, target, path, query; /* path: "/" of an empty one has size 0 */
    enum khp_http_form form;
    bool has_query;
    int status; /* 100 to 999 */
    struct khp_http_range reason;
    struct khp_http_field *fields; /* the caller's */
    uint32_t field_count;
    uint32_t size;             /* of the whole head, when done */
    enum khp_http_error error; /* when failed */

    /* Progress. */
    const struct khp_http_limits *limits;
    enum khp_http_head_state state;
    uint32_t at;   /* the next byte to look at */
    uint32_t line; /* where the current line begins */
};

/* fields: room for limits->fields of them. Both are borrowed until the parser is no longer used. */
void khp_http_head_init(struct khp_http_head *head, enum khp_http_kind kind,
                        const struct khp_http_limits *limits, struct khp_http_field *fields);

/*
 * bytes: all n bytes of the message so far, the ones given before unchanged. MORE: not all of the
 * head is there. DONE: see results; head->size bytes were the head. FAILED: see head->error. After
 * DONE or FAILED the same again.
 */
enum khp_http_progress khp_http_head_parse(struct khp_http_head *head, const char *bytes, size_t n);

/* Copies a value to out, which has room for it; each fold becomes one space (RFC 2616 2.2). Returns
 * the new size. */
size_t khp_http_unfold(char *out, const char *value, size_t n);

static inline struct khp_http_slice khp_http_slice(const char *bytes, struct khp_http_range range) {
    return (struct khp_http_slice){bytes + range.at, range.size};
}

#endif
