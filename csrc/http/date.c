/*
 * Reads and writes dates with arithmetic of its own, since the C library's depends on locale and
 * time zone.
 */
#include "http/date.h"

#include <string.h>

static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char days[7][10] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                 "Thursday", "Friday", "Saturday"};

enum { DAY = 86400 };

/* Of the year 0 and later, in the Gregorian calendar. */
struct date {
    int64_t year;
    int month, day, hour, minute, second; /* month 0 to 11, day from 1 */
};

static bool is_leap(int64_t year) {
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_of_month(int64_t year, int month) {
    static const int lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return lengths[month] + (month == 1 && is_leap(year) ? 1 : 0);
}

/* Days from 0000-01-01 to the first of January of the year. */
static int64_t days_before(int64_t year) {
    return year == 0 ? 0 : 365 * year + (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400 + 1;
}

static int64_t to_seconds(const struct date *date) {
    int64_t day = days_before(date->year) - days_before(1970) + date->day - 1;
    for (int month = 0; month < date->month; month++)
        day += days_of_month(date->year, month);
    return ((day * 24 + date->hour) * 60 + date->minute) * 60 + date->second;
}

/* false: before the year 0 or after 9999. */
static bool from_seconds(int64_t seconds, struct date *date) {
    int64_t epoch = days_before(1970);
    if (seconds < -epoch * DAY || seconds >= (days_before(10000) - epoch) * DAY)
        return false;
    seconds += epoch * DAY;
    int64_t day = seconds / DAY;
    int rest = (int)(seconds % DAY);
    date->hour = rest / 3600;
    date->minute = rest / 60 % 60;
    date->second = rest % 60;
    date->year = day / 366; /* at most a few years too early */
    while (date->year < 9999 && days_before(date->year + 1) <= day)
        date->year++;
    day -= days_before(date->year);
    date->month = 0;
    while (day >= days_of_month(date->year, date->month))
        day -= days_of_month(date->year, date->month++);
    date->day = (int)day + 1;
    return true;
}

static char *put_digits(char *out, int64_t number, int width) {
    for (int i = width - 1; i >= 0; i--, number /= 10)
        out[i] = (char)('0' + number % 10);
    return out + width;
}

static char *put(char *out, const char *text, size_t n) {
    memcpy(out, text, n);
    return out + n;
}

bool khp_http_date_write(int64_t seconds, char out[KHP_HTTP_DATE_SIZE]) {
    struct date date;
    if (!from_seconds(seconds, &date))
        return false;
    int64_t day = (seconds + days_before(1970) * DAY) / DAY;
    out = put(out, days[(day + 6) % 7], 3); /* 0000-01-01 was a Saturday */
    out = put(out, ", ", 2);
    out = put_digits(out, date.day, 2);
    out = put(out, " ", 1);
    out = put(out, months[date.month], 3);
    out = put(out, " ", 1);
    out = put_digits(out, date.year, 4);
    out = put(out, " ", 1);
    out = put_digits(out, date.hour, 2);
    out = put(out, ":", 1);
    out = put_digits(out, date.minute, 2);
    out = put(out, ":", 1);
    out = put_digits(out, date.second, 2);
    put(out, " GMT", 4);
    return true;
}

/* The readers below take what they name from the front of the text, or say false. */
struct text {
    const char *at, *end;
};

static bool take(struct text *text, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(text->end - text->at) < n || memcmp(text->at, word, n) != 0)
        return false;
    text->at += n;
    return true;
}

static bool take_number(struct text *text, int width, int *number) {
    if (text->end - text->at < width)
        return false;
    *number = 0;
    for (int i = 0; i < width; i++) {
        char c = *text->at++;
        if (c < '0' || c > '9')
            return false;
        *number = *number * 10 + (c - '0');
    }
    return true;
}

static bool take_month(struct text *text, int *month) {
    for (*month = 0; *month < 12; ++*month) {
        if (take(text, months[*month]))
            return true;
    }
    return false;
}

static bool take_time(struct text *text, struct date *date) {
    return take_number(text, 2, &date->hour) && take(text, ":") &&
           take_number(text, 2, &date->minute) && take(text, ":") &&
           take_number(text, 2, &date->second);
}

static bool take_year(struct text *text, struct date *date) {
    int year;
    if (!take_number(text, 4, &year))
        return false;
    date->year = year;
    return true;
}

/* Sun, 06 Nov 1994 08:49:37 GMT, after the comma. */
static bool take_rfc1123(struct text *text, struct date *date) {
    return take(text, ", ") && take_number(text, 2, &date->day) && take(text, " ") &&
           take_month(text, &date->month) && take(text, " ") && take_year(text, date) &&
           take(text, " ") && take_time(text, date) && take(text, " GMT");
}

/* Sunday, 06-Nov-94 08:49:37 GMT, after the comma. The last such year up to 50 years from now (RFC
 * 2616 19.3). */
static bool take_rfc850(struct text *text, struct date *date, int64_t now) {
    int year;
    if (!take(text, ", ") || !take_number(text, 2, &date->day) || !take(text, "-") ||
        !take_month(text, &date->month) || !take(text, "-") || !take_number(text, 2, &year))
        return false;
    struct date today;
    if (!from_seconds(now, &today))
        return false;
    date->year = today.year - today.year % 100 + year;
    if (date->year > today.year + 50)
        date->year -= 100;
    else if (date->year + 100 <= today.year + 50)
        date->year += 100;
    return take(text, " ") && take_time(text, date) && take(text, " GMT");
}

/* Sun Nov  6 08:49:37 1994, after the day. */
static bool take_asctime(struct text *text, struct date *date) {
    if (!take(text, " ") || !take_month(text, &date->month) || !take(text, " "))
        return false;
    if (!(take(text, " ") ? take_number(text, 1, &date->day) : take_number(text, 2, &date->day)))
        return false;
    return take(text, " ") && take_time(text, date) && take(text, " ") && take_year(text, date);
}

bool khp_http_date_read(const char *at, size_t n, int64_t now, int64_t *seconds) {
    struct text text = {at, at + n};
    struct date date;
    bool full = false, found = false;
    for (int i = 0; i < 7 && !found; i++) {
        char abbreviation[4] = {days[i][0], days[i][1], days[i][2], '\0'};
        full = take(&text, days[i]);
        found = full || take(&text, abbreviation);
    }
    if (!found)
        return false;
    if (full)
        found = take_rfc850(&text, &date, now);
    else if (text.at < text.end && *text.at == ',')
        found = take_rfc1123(&text, &date);
    else
        found = take_asctime(&text, &date);
    if (!found || text.at != text.end)
        return false;
    if (date.day < 1 || date.day > days_of_month(date.year, date.month) || date.hour > 23 ||
        date.minute > 59 || date.second > 60) /* 60: a leap second */
        return false;
    *seconds = to_seconds(&date);
    return true;
}
