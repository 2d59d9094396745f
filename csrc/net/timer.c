/*
 * Timers: an intrusive pairing heap over one uv_timer_t. libwebsockets' own timers are not used: on
 * libuv they fire only after its next I/O.
 */
#include "net/inside.h"

/* The heap that has the earlier of two roots on top. */
static struct khp_net_timer *meld(struct khp_net_timer *a, struct khp_net_timer *b) {
    if (a == NULL)
        return b;
    if (b == NULL)
        return a;
    if (b->due < a->due) {
        struct khp_net_timer *t = a;
        a = b;
        b = t;
    }
    b->prev = a; /* a first child's prev is its parent */
    b->next = a->child;
    if (b->next != NULL)
        b->next->prev = b;
    a->child = b;
    return a;
}

/* One heap of a list of siblings: pairs from left to right, then the pairs from right to left. */
static struct khp_net_timer *meld_siblings(struct khp_net_timer *first) {
    struct khp_net_timer *pairs = NULL;
    while (first != NULL) {
        struct khp_net_timer *a = first;
        struct khp_net_timer *b = a->next;
        first = b != NULL ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b != NULL)
            b->next = b->prev = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    struct khp_net_timer *root = NULL;
    while (pairs != NULL) {
        struct khp_net_timer *rest = pairs->next;
        pairs->next = NULL;
        root = meld(root, pairs);
        pairs = rest;
    }
    return root;
}

static void detach(struct khp_net_loop *loop, struct khp_net_timer *timer) {
    struct khp_net_timer *children = meld_siblings(timer->child);
    timer->child = NULL;
    if (timer == loop->timers) {
        loop->timers = children;
    } else {
        if (timer->prev->child == timer)
            timer->prev->child = timer->next;
        else
            timer->prev->next = timer->next;
        if (timer->next != NULL)
            timer->next->prev = timer->prev;
        loop->timers = meld(loop->timers, children);
    }
    timer->next = timer->prev = NULL;
    timer->running = false;
}

static void ring(uv_timer_t *alarm) {
    struct khp_net_loop *loop = alarm->data;
    khp_net_loop_enter(loop);
    khp_net_timers_fire(loop);
    khp_net_loop_leave(loop);
}

/* Sets the alarm to the earliest timer. Not while timers fire: it is done once, after them. */
static void arm(struct khp_net_loop *loop) {
    if (loop->firing != 0 || loop->freeing)
        return;
    if (loop->timers == NULL) {
        uv_timer_stop(&loop->alarm);
        return;
    }
    uint64_t now = uv_now(&loop->uv);
    uint64_t due = loop->timers->due;
    uv_timer_start(&loop->alarm, ring, due > now ? due - now : 0, 0);
}

void khp_net_timers_fire(struct khp_net_loop *loop) {
    khp_net_batch_hand_over(loop); /* what was heard in time is heard first */
    loop->firing = uv_now(&loop->uv);
    while (loop->timers != NULL && loop->timers->due <= loop->firing) {
        struct khp_net_timer *timer = loop->timers;
        detach(loop, timer);
        timer->fire(timer);
    }
    loop->firing = 0;
    arm(loop);
}

void khp_net_timers_drop(struct khp_net_loop *loop) {
    while (loop->timers != NULL)
        detach(loop, loop->timers);
    uv_timer_stop(&loop->alarm);
}

void khp_net_timer_start(struct khp_net_loop *loop, struct khp_net_timer *timer, uint64_t ms) {
    struct khp_net_timer *earliest = loop->timers;
    if (timer->running)
        detach(loop, timer);
    if (loop->freeing)
        return;
    if (!khp_net_loop_entered(loop))
        uv_update_time(&loop->uv); /* the host may have been elsewhere for long */
    uint64_t now = khp_net_loop_now(loop);
    timer->due = ms < UINT64_MAX - now ? now + ms : UINT64_MAX;
    /* One that is started by a timer's callback waits for the next turn, or 0 ms would never let
     * go. */
    if (timer->due <= loop->firing)
        timer->due = loop->firing + 1;
    timer->running = true;
    loop->timers = meld(loop->timers, timer);
    if (loop->timers != earliest || earliest == timer)
        arm(loop);
}

void khp_net_timer_stop(struct khp_net_loop *loop, struct khp_net_timer *timer) {
    if (!timer->running)
        return;
    bool earliest = timer == loop->timers;
    detach(loop, timer);
    if (earliest)
        arm(loop);
}
