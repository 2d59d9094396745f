/*
 * Field values: lists of tokens and of extensions, challenges, quoted strings. Each value stands
 * directly before a guard page; what was read is written out in one line and compared.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "guard.h"
#include "http/challenge.h"
#include "http/grammar.h"

enum { TEXT = 1024 };

static void put(char *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(char *out, const char *format, ...) {
    size_t size = strlen(out);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(out + size, TEXT - size, format, arguments);
    va_end(arguments);
}

static void put_slice(char *out, struct khp_http_slice slice) {
    put(out, "<%.*s>", (int)slice.size, slice.at);
}

static void put_end(char *out, enum khp_http_item item, const struct khp_http_cursor *cursor) {
    if (item == KHP_HTTP_MALFORMED)
        put(out, "!");
    else
        assert_ptr_equal(cursor->at, cursor->end);
}

static void put_parameter(char *out, const struct khp_http_parameter *parameter) {
    put(out, ";");
    put_slice(out, parameter->name);
    if (parameter->quoted) {
        char content[TEXT];
        size_t size = khp_http_unquote(content, parameter->value);
        assert_true(size <= parameter->value.size);
        put(out, "=\"%.*s\"", (int)size, content);
    } else if (parameter->has_value) {
        put(out, "=");
        put_slice(out, parameter->value);
    }
}

static void read_tokens(struct khp_http_cursor cursor, char *out) {
    struct khp_http_slice token;
    enum khp_http_item item;
    while ((item = khp_http_next_token(&cursor, &token)) == KHP_HTTP_ITEM)
        put_slice(out, token);
    put_end(out, item, &cursor);
}

static void read_extensions(struct khp_http_cursor cursor, char *out) {
    struct khp_http_slice name;
    struct khp_http_parameter parameter;
    enum khp_http_item item;
    while ((item = khp_http_next_extension(&cursor, &name)) == KHP_HTTP_ITEM) {
        put_slice(out, name);
        while ((item = khp_http_next_extension_parameter(&cursor, &parameter)) == KHP_HTTP_ITEM)
            put_parameter(out, &parameter);
        if (item == KHP_HTTP_MALFORMED)
            break;
    }
    put_end(out, item, &cursor);
}

static void read_challenges(struct khp_http_cursor cursor, char *out) {
    struct khp_http_challenge challenge;
    struct khp_http_parameter parameter;
    enum khp_http_item item;
    while ((item = khp_http_next_challenge(&cursor, &challenge)) == KHP_HTTP_ITEM) {
        if (challenge.prefix.size > 0)
            put_slice(out, challenge.prefix);
        put_slice(out, challenge.scheme);
        if (challenge.token68.size > 0) {
            put(out, "~");
            put_slice(out, challenge.token68);
        }
        while ((item = khp_http_next_challenge_parameter(&cursor, &parameter)) == KHP_HTTP_ITEM)
            put_parameter(out, &parameter);
        if (item == KHP_HTTP_MALFORMED)
            break;
    }
    put_end(out, item, &cursor);
}

struct example {
    const char *value, *expected;
};

static void check_all(void (*read)(struct khp_http_cursor, char *), const struct example *examples,
                      size_t count) {
    for (size_t i = 0; i < count; i++) {
        char out[TEXT] = "";
        size_t n = strlen(examples[i].value);
        struct guard guard = guard_new(examples[i].value, n);
        read(khp_http_cursor((struct khp_http_slice){(const char *)guard.bytes, n}), out);
        assert_string_equal(out, examples[i].expected);
        /* Cut anywhere, it is still read without a step too far. */
        for (size_t cut = 1; cut < n; cut++) {
            struct guard shorter = guard_new(examples[i].value, cut);
            out[0] = '\0';
            read(khp_http_cursor((struct khp_http_slice){(const char *)shorter.bytes, cut}), out);
            guard_free(&shorter);
        }
        guard_free(&guard);
    }
}

#define CHECK_ALL(read, examples) check_all(read, examples, sizeof(examples) / sizeof(examples)[0])

static void tokens(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"", ""},
        {" ,\t, ", ""},
        {"a", "<a>"},
        {"keep-alive, Upgrade", "<keep-alive><Upgrade>"},
        {",a,, b\t,c ,", "<a><b><c>"},
        {"a b", "!"},
        {"a, b/c", "<a>!"},
        {"a;b", "!"},
        {"\"a\"", "!"},
        {"a, \x80", "<a>!"},
    };
    CHECK_ALL(read_tokens, examples);
}

static void extensions(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"", ""},
        {"x-kaazing-idle-timeout; timeout=30000, x-kaazing-ping-pong",
         "<x-kaazing-idle-timeout>;<timeout>=<30000><x-kaazing-ping-pong>"},
        {"x-kaazing-ping-pong;01020304", "<x-kaazing-ping-pong>;<01020304>"},
        {"a;b;c=d;c=e , ,f", "<a>;<b>;<c>=<d>;<c>=<e><f>"},
        {"a ; b = c ;\td", "<a>;<b>=<c>;<d>"},
        {"a;b=\"c\\d\"", "<a>;<b>=\"cd\""},
        {"permessage-deflate; client_max_window_bits; server_max_window_bits=\"10\"",
         "<permessage-deflate>;<client_max_window_bits>;<server_max_window_bits>=\"10\""},
        /* RFC 6455 9.1: the content must be a token */
        {"a;b=\"c d\"", "<a>!"},
        {"a;b=\"\"", "<a>!"},
        {"a;b=\"c", "<a>!"},
        {"a;b=\"c\\", "<a>!"},
        {"a;b=\"c\" d", "<a>!"},
        {"a;b=", "<a>!"},
        {"a;", "<a>!"},
        {"a;;b", "<a>!"},
        {"a;=b", "<a>!"},
        {"a;b=c=d", "<a>!"},
        {";a", "!"},
        {"a b", "!"},
        {"a=b", "!"},
        {"a, b@c", "<a>!"},
    };
    CHECK_ALL(read_extensions, examples);
}

static void challenges(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"", ""},
        {"Basic realm=\"members\"", "<Basic>;<realm>=\"members\""},
        {"Basic realm=members", "<Basic>;<realm>=<members>"},
        {"basic  realm = \"a \\\"b\\\", c\" , charset=\"UTF-8\"",
         "<basic>;<realm>=\"a \"b\", c\";<charset>=\"UTF-8\""},
        {"Basic realm=\"\"", "<Basic>;<realm>=\"\""},
        {"Negotiate", "<Negotiate>"},
        {"Negotiate, Basic realm=x, NTLM", "<Negotiate><Basic>;<realm>=<x><NTLM>"},
        {"Negotiate YII=, Basic realm=x", "<Negotiate>~<YII=><Basic>;<realm>=<x>"},
        {"Negotiate a-._~+/Z09==", "<Negotiate>~<a-._~+/Z09==>"},
        {"Basic , realm=x", "<Basic>;<realm>=<x>"},
        {", ,Basic realm=x,, a=b ,", "<Basic>;<realm>=<x>;<a>=<b>"},
        {"Digest realm=\"r\", qop=\"auth,auth-int\", algorithm=MD5-sess, nonce=\"dcd98b=\", "
         "stale=FALSE",
         "<Digest>;<realm>=\"r\";<qop>=\"auth,auth-int\";<algorithm>=<MD5-sess>;<nonce>=\"dcd98b="
         "\";<stale>=<FALSE>"},
        {"Digest nonce=abc==, domain=/a:b, x=y",
         "<Digest>;<nonce>=<abc==>;<domain>=</a:b>;<x>=<y>"},
        {"Newauth realm=\"apps\", type=1, title=\"Login to \\\"apps\\\"\", Basic realm=\"simple\"",
         "<Newauth>;<realm>=\"apps\";<type>=<1>;<title>=\"Login to "
         "\"apps\"\"<Basic>;<realm>=\"simple\""},
        {"Bearer scope=\"a b\", error=\"invalid_token\"",
         "<Bearer>;<scope>=\"a b\";<error>=\"invalid_token\""},
        /* The two-word schemes */
        {"Application Basic realm=\"Kaazing Gateway Demo\"",
         "<Application><Basic>;<realm>=\"Kaazing Gateway Demo\""},
        {"APPLICATION Basic realm=x", "<APPLICATION><Basic>;<realm>=<x>"},
        {"Application Token", "<Application><Token>"},
        {"Application Token, Application Basic realm=x, Basic realm=y",
         "<Application><Token><Application><Basic>;<realm>=<x><Basic>;<realm>=<y>"},
        {"Application Negotiate", "<Application><Negotiate>"},
        {"Application Negotiate YIIC==", "<Application><Negotiate>~<YIIC==>"},
        {"Application Negotiate ws://h:1/a?b=c identifier , Basic realm=x",
         "<Application><Negotiate>~<ws://h:1/a?b=c identifier><Basic>;<realm>=<x>"},
        {"Application Token a b=c", "<Application><Token>~<a b=c>"},
        {"Application realm=x", "<Application>;<realm>=<x>"},
        {"Application", "<Application>"},
        {"Application, Basic realm=x", "<Application><Basic>;<realm>=<x>"},
        {"Negotiate ws://h", "!"},
        {"Basic realm", "<Basic>~<realm>"},
        {"Basic realm=", "<Basic>~<realm=>"},
        {"Basic a b", "!"},
        {"Basic realm=\"x", "<Basic>!"},
        {"Basic realm=\"x\\", "<Basic>!"},
        {"Basic realm=\"x\" y", "<Basic>!"},
        {"Basic realm=x y", "<Basic>!"},
        {"Basic realm=x\"y\"", "<Basic>!"},
        {"Basic realm=x, \"y\"", "<Basic>;<realm>=<x>!"},
        {"Basic=x", "!"},
        {"Basic/x", "!"},
        {"\"Basic\"", "!"},
        {"Basic realm=\x01", "<Basic>!"},
        {"Application \"x\"", "!"},
        {"Application Token \"x\"", "!"},
        {"Application Token/x", "!"},
    };
    CHECK_ALL(read_challenges, examples);
}

static void quoted_strings(void **state) {
    (void)state;
    for (int c = 0; c < 256; c++) {
        char text[3] = {'a', (char)c, 'b'}, quoted[8], back[8];
        struct khp_http_slice slice = {text, sizeof text}, content;
        bool control = (c < 0x20 && c != '\t') || c == 0x7f;
        assert_int_equal(khp_http_quotable(slice), !control);
        size_t n = khp_http_quote(quoted, slice);
        struct guard guard = guard_new(quoted, n);
        struct khp_http_cursor cursor =
            khp_http_cursor((struct khp_http_slice){(const char *)guard.bytes, n});
        bool good = khp_http_read_quoted(&cursor, &content);
        assert_int_equal(good, !control);
        if (good) {
            assert_ptr_equal(cursor.at, cursor.end);
            assert_int_equal(khp_http_unquote(back, content), sizeof text);
            assert_memory_equal(back, text, sizeof text);
        }
        guard_free(&guard);
    }
}

static void classes(void **state) {
    (void)state;
    for (int c = 0; c < 256; c++) {
        bool separator = c != 0 && strchr("()<>@,;:\\\"/[]?={} \t", c) != NULL;
        bool visible = c > 0x20 && c < 0x7f;
        bool digit = c >= '0' && c <= '9';
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool high = c >= 0x80;
        assert_int_equal(khp_http_is((char)c, KHP_HTTP_TOKEN), visible && !separator);
        assert_int_equal(khp_http_is((char)c, KHP_HTTP_TEXT),
                         visible || high || c == ' ' || c == '\t');
        assert_int_equal(khp_http_is((char)c, KHP_HTTP_VISIBLE), visible);
        assert_int_equal(khp_http_is((char)c, KHP_HTTP_URI), (visible && c != '#') || high);
        assert_int_equal(khp_http_is((char)c, KHP_HTTP_DIGIT), digit);
        assert_int_equal(khp_http_is((char)c, KHP_HTTP_HEX), digit || (letter && (c | 32) <= 'f'));
        assert_int_equal(khp_http_is((char)c, KHP_HTTP_TOKEN68),
                         letter || digit || (c != 0 && strchr("-._~+/", c) != NULL));
        assert_int_equal(khp_http_lower((char)c), letter ? (char)(c | 32) : (char)c);
    }
}

#define TEST(title, function)                                                                      \
    { title, function, NULL, NULL, NULL }

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST("reads lists of tokens [H3 E6]", tokens),
        TEST("reads lists of extensions [H3 E14]", extensions),
        TEST("reads challenges, several to a value, with and without Application [H9]", challenges),
        TEST("quotes and unquotes every character that may be [H3]", quoted_strings),
        TEST("knows every character's classes [H3]", classes),
    };
    return cmocka_run_group_tests_name("http grammar", tests, NULL, NULL);
}
