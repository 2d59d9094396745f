/*
 * Dates: the three formats read, the first written, compared with the C library over the whole
 * range.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "guard.h"
#include "http/date.h"

static const int64_t now = 1763800000; /* in November 2025 */

static bool read_date(const char *text, int64_t at, int64_t *seconds) {
    size_t n = strlen(text);
    struct guard guard = guard_new(text, n);
    bool good = khp_http_date_read((const char *)guard.bytes, n, at, seconds);
    guard_free(&guard);
    return good;
}

static void reads_three_formats(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t seconds;
    } examples[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Sun Nov 16 08:49:37 1994", 784111777 + 10 * 86400},
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
        {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
        {"Tue, 29 Feb 2000 12:00:00 GMT", 951825600},
        {"Mon, 28 Feb 2028 23:59:59 GMT", 1835395199},
        {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800}, /* a leap second */
        {"Sat, 01 Jan 0000 00:00:00 GMT", -62167219200},
        {"Fri, 31 Dec 9999 23:59:59 GMT", 253402300799},
    };
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        int64_t seconds = 12345;
        assert_true(read_date(examples[i].text, now, &seconds));
        assert_true(seconds == examples[i].seconds);
        for (size_t cut = 0; cut < strlen(examples[i].text); cut++) {
            char part[64] = "";
            memcpy(part, examples[i].text, cut);
            assert_false(read_date(part, now, &seconds));
        }
    }
}

static void tells_centuries(void **state) {
    (void)state;
    static const struct {
        const char *text, *full;
        int64_t now;
    } examples[] = {
        {"Tuesday, 01-Jan-25 00:00:00 GMT", "Wed, 01 Jan 2025 00:00:00 GMT", 1763800000},
        {"Tuesday, 01-Jan-75 00:00:00 GMT", "Tue, 01 Jan 2075 00:00:00 GMT", 1763800000},
        {"Tuesday, 01-Jan-76 00:00:00 GMT", "Thu, 01 Jan 1976 00:00:00 GMT", 1763800000},
        {"Tuesday, 01-Jan-99 00:00:00 GMT", "Fri, 01 Jan 1999 00:00:00 GMT", 1763800000},
        {"Tuesday, 01-Jan-01 00:00:00 GMT", "Mon, 01 Jan 2001 00:00:00 GMT",
         915148800}, /* in 1999 */
        {"Tuesday, 01-Jan-60 00:00:00 GMT", "Fri, 01 Jan 1960 00:00:00 GMT", 915148800},
    };
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        int64_t two = 1, four = 2;
        assert_true(read_date(examples[i].text, examples[i].now, &two));
        assert_true(read_date(examples[i].full, examples[i].now, &four));
        assert_true(two == four);
    }
}

static void refuses(void **state) {
    (void)state;
    static const char *const examples[] = {
        "",
        "now",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 1900 08:49:37 GMT",
        "Sun, 29 Feb 2023 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov -994 08:49:37 GMT",
        "Sun, 06 Nix 1994 08:49:37 GMT",
        "Xyz, 06 Nov 1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  0 08:49:37 1994",
        "Sun Nov 06 08:49:37 94",
        "784111777",
    };
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        int64_t seconds;
        assert_false(read_date(examples[i], now, &seconds));
    }
}

static void writes_what_the_library_writes(void **state) {
    (void)state;
    const int64_t first = -62167219200, last = 253402300799;
    int64_t step = 7919 * 86400 / 10 + 12347; /* some two years: 4000 dates of every kind */
    size_t count = 0;
    for (int64_t seconds = first; seconds <= last; seconds += count++ % 2 == 0 ? 86399 : step) {
        char expected[64], out[KHP_HTTP_DATE_SIZE + 1] = "";
        time_t when = (time_t)seconds;
        struct tm tm;
        assert_non_null(gmtime_r(&when, &tm));
        static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        snprintf(expected, sizeof expected, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
                 tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
                 tm.tm_sec);
        assert_true(khp_http_date_write(seconds, out));
        assert_string_equal(out, expected);
        int64_t back = 0;
        assert_true(read_date(out, now, &back));
        assert_true(back == seconds);
    }
    assert_true(count > 1000);
    char out[KHP_HTTP_DATE_SIZE];
    assert_true(khp_http_date_write(last, out));
    assert_false(khp_http_date_write(last + 1, out));
    assert_false(khp_http_date_write(first - 1, out));
    assert_false(khp_http_date_write(INT64_MAX, out));
    assert_false(khp_http_date_write(INT64_MIN, out));
}

#define TEST(title, function)                                                                      \
    { title, function, NULL, NULL, NULL }

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST("reads the three formats, whole or not at all [H7]", reads_three_formats),
        TEST("tells the century of a two-digit year [H7]", tells_centuries),
        TEST("refuses what is no date [H7]", refuses),
        TEST("writes and reads back every kind of date as the C library does [H7]",
             writes_what_the_library_writes),
    };
    return cmocka_run_group_tests_name("http date", tests, NULL, NULL);
}
