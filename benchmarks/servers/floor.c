/* The floor: what the same deliveries cost in C, with one send(2) for each recipient and each message.
 *
 * One thread, epoll, no library. It speaks just enough HTTP, WebSocket, Engine.IO and Socket.IO for the load generator
 * of this folder, and trusts it: no limits, no pings, no escapes in JSON strings, no polling, namespace "/" only.
 * Not a server for anybody else.
 *
 * cc -O2 -o floor floor.c && ./floor PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUCKETS 65536
#define READ_BYTES (1 << 18)
#define FRAME_BYTES (1 << 20)
#define BATCH 512

struct conn;
struct room {
    char *name;
    struct room *next;
    struct conn **members;
    size_t count, space;
};
struct seat { struct room *room; size_t place; };
struct conn {
    int fd;
    char open, entered, dead;
    char *in, *out; /* what is left of a frame that is not whole yet; what the kernel did not take yet */
    size_t in_size, out_size;
    struct seat *seats;
    int seat_count;
    struct conn *next_dead;
};

static struct room *rooms[BUCKETS];
static struct conn *dead;
static int poller;
static size_t entered;
static char frame[FRAME_BYTES];

static void *need(void *memory) {
    if (!memory) { perror("memory"); exit(1); }
    return memory;
}

/* --- SHA-1 (FIPS 180-4) and base64, for Sec-WebSocket-Accept */

static uint32_t rol(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1(const char *text, size_t size, uint8_t digest[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}, w[80];
    uint8_t block[128] = {0};
    size_t total = size + 9 > 64 ? 128 : 64; /* a key and the GUID are 60 bytes: never more than two blocks */
    memcpy(block, text, size);
    block[size] = 0x80;
    for (int i = 0; i < 8; i++) block[total - 1 - i] = (uint8_t)((uint64_t)size * 8 >> 8 * i);
    for (size_t at = 0; at < total; at += 64) {
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)block[at + 4 * i] << 24 | block[at + 4 * i + 1] << 16 | block[at + 4 * i + 2] << 8 | block[at + 4 * i + 3];
        for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (b & c) | (~b & d) : i < 40 || i >= 60 ? b ^ c ^ d : (b & c) | (b & d) | (c & d);
            uint32_t k = i < 20 ? 0x5A827999 : i < 40 ? 0x6ED9EBA1 : i < 60 ? 0x8F1BBCDC : 0xCA62C1D6;
            uint32_t t = rol(a, 5) + f + e + k + w[i];
            e = d; d = c; c = rol(b, 30); b = a; a = t;
        }
        h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t *data, size_t size, char *text) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t three = (uint32_t)data[i] << 16 | (i + 1 < size ? data[i + 1] << 8 : 0) | (i + 2 < size ? data[i + 2] : 0);
        *text++ = letters[three >> 18];
        *text++ = letters[three >> 12 & 63];
        *text++ = i + 1 < size ? letters[three >> 6 & 63] : '=';
        *text++ = i + 2 < size ? letters[three & 63] : '=';
    }
    *text = 0;
}

/* --- out */

static void bury(struct conn *c) {
    if (c->dead) return;
    c->dead = 1;
    c->next_dead = dead;
    dead = c;
}

static void watch(struct conn *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
}

static void put(struct conn *c, const char *data, size_t size) {
    if (c->dead) return;
    if (!c->out_size) {
        ssize_t sent = send(c->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent == (ssize_t)size) return;
        if (sent < 0 && errno != EAGAIN) { bury(c); return; }
        if (sent > 0) { data += sent; size -= (size_t)sent; }
        watch(c, EPOLLIN | EPOLLOUT);
    }
    c->out = need(realloc(c->out, c->out_size + size));
    memcpy(c->out + c->out_size, data, size);
    c->out_size += size;
}

static void drain(struct conn *c) {
    ssize_t sent = send(c->fd, c->out, c->out_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) { if (errno != EAGAIN) bury(c); return; }
    c->out_size -= (size_t)sent;
    memmove(c->out, c->out + sent, c->out_size);
    if (!c->out_size) { free(c->out); c->out = NULL; watch(c, EPOLLIN); }
}

/* A text frame in `frame`: where it begins. The payload stands at frame + 10 already. */
static char *framed(size_t size, size_t *whole) {
    size_t head = size < 126 ? 2 : size < 65536 ? 4 : 10;
    char *start = frame + 10 - head;
    start[0] = (char)0x81;
    start[1] = (char)(size < 126 ? size : size < 65536 ? 126 : 127);
    for (size_t i = 2; i < head; i++) start[i] = (char)((uint64_t)size >> 8 * (head - 1 - i));
    *whole = head + size;
    return start;
}

static void say(struct conn *c, const char *text, size_t size) {
    size_t whole;
    memcpy(frame + 10, text, size);
    char *start = framed(size, &whole);
    put(c, start, whole);
}

/* --- rooms */

static struct room *room_of(const char *name, size_t size, int make) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    struct room **at = &rooms[hash % BUCKETS];
    for (struct room *room = *at; room; room = room->next)
        if (strlen(room->name) == size && !memcmp(room->name, name, size)) return room;
    if (!make) return NULL;
    struct room *room = need(calloc(1, sizeof *room));
    room->name = need(strndup(name, size));
    room->next = *at;
    return *at = room;
}

static void join(struct conn *c, struct room *room) {
    if (room->count == room->space) {
        room->space = room->space ? room->space * 2 : 4;
        room->members = need(realloc(room->members, room->space * sizeof *room->members));
    }
    c->seats = need(realloc(c->seats, (size_t)(c->seat_count + 1) * sizeof *c->seats));
    c->seats[c->seat_count++] = (struct seat){room, room->count};
    room->members[room->count++] = c;
}

static void leave_all(struct conn *c) {
    for (int i = 0; i < c->seat_count; i++) {
        struct room *room = c->seats[i].room;
        struct conn *last = room->members[--room->count];
        room->members[c->seats[i].place] = last;
        for (int k = 0; k < last->seat_count; k++)
            if (last->seats[k].room == room) last->seats[k].place = c->seats[i].place;
    }
    free(c->seats);
}

static void publish(struct room *room, const char *text, size_t size) {
    size_t whole;
    memcpy(frame + 10, "42[\"msg\",\"", 10);
    memcpy(frame + 20, text, size);
    memcpy(frame + 20 + size, "\"]", 2);
    char *start = framed(size + 12, &whole);
    for (size_t i = 0; room && i < room->count; i++) put(room->members[i], start, whole);
}

/* --- events: ["name", ...] */

static const char *string_at(const char *at, size_t *size) { /* the next string from here */
    const char *start = strchr(at, '"') + 1;
    *size = (size_t)(strchr(start, '"') - start);
    return start;
}

static const char *string_of(const char *json, const char *key, size_t *size) {
    return string_at(strstr(json, key) + strlen(key), size);
}

static const char *next_in_list(const char *at, size_t *size) { /* NULL at the end of the list */
    while (*at && *at != '"' && *at != ']') at++;
    return *at == '"' ? string_at(at, size) : NULL;
}

static void on_event(struct conn *c, const char *id, size_t id_size, const char *json) {
    static char answer[FRAME_BYTES];
    size_t size, room_size;
    if (!strncmp(json, "[\"publish\"", 10)) {
        const char *name = string_of(json, "\"room\":", &room_size);
        struct room *room = room_of(name, room_size, 0);
        const char *at = strstr(json, "\"texts\":[") + 9;
        while ((at = next_in_list(at, &size))) { publish(room, at, size); at += size + 1; }
    } else if (!strncmp(json, "[\"spread\"", 9)) {
        const char *prefix = string_of(json, "\"prefix\":", &room_size), *text = string_of(json, "\"text\":", &size);
        int count = atoi(strstr(json, "\"rooms\":") + 8);
        char name[64];
        for (int i = 0; i < count; i++) {
            int length = snprintf(name, sizeof name, "%.*s%d", (int)room_size, prefix, i);
            publish(room_of(name, (size_t)length, 0), text, size);
        }
    } else if (!strncmp(json, "[\"join\"", 7)) {
        const char *at = strstr(json, "\"rooms\":[") + 9;
        while ((at = next_in_list(at, &size))) { join(c, room_of(at, size, 1)); at += size + 1; }
        say(c, answer, (size_t)sprintf(answer, "43%.*s[%d]", (int)id_size, id, c->seat_count));
    } else if (!strncmp(json, "[\"echo\",", 8)) {
        say(c, answer, (size_t)sprintf(answer, "43%.*s[%s", (int)id_size, id, json + 8));
    } else if (!strncmp(json, "[\"count\"", 8)) {
        say(c, answer, (size_t)sprintf(answer, "43%.*s[%zu]", (int)id_size, id, entered));
    } else if (!strncmp(json, "[\"collect\"", 10)) {
        say(c, answer, (size_t)sprintf(answer, "43%.*s[0]", (int)id_size, id));
    }
}

static void on_message(struct conn *c, char *text, size_t size) {
    char answer[64], behind = text[size];
    text[size] = 0;
    if (!strncmp(text, "42", 2)) {
        size_t digits = strspn(text + 2, "0123456789");
        on_event(c, text + 2, digits, text + 2 + digits);
    } else if (!strncmp(text, "40", 2)) {
        c->entered = 1;
        entered++;
        say(c, answer, (size_t)sprintf(answer, "40{\"sid\":\"%d\"}", c->fd));
    } else if (*text == '1') {
        bury(c);
    }
    text[size] = behind;
}

/* --- in */

static size_t upgrade(struct conn *c, char *data, size_t size) { /* how much of the data was the request */
    char *end = memmem(data, size, "\r\n\r\n", 4), *key, joined[64 + 36], accept[32], answer[256];
    uint8_t digest[20];
    if (!end) return 0;
    *end = 0;
    if (!(key = strcasestr(data, "Sec-WebSocket-Key: "))) { bury(c); return size; }
    snprintf(joined, sizeof joined, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key + 19);
    sha1(joined, strlen(joined), digest);
    base64(digest, 20, accept);
    int length = sprintf(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    put(c, answer, (size_t)length);
    length = sprintf(answer, "0{\"sid\":\"%d\",\"upgrades\":[],\"pingInterval\":3600000,\"pingTimeout\":3600000,"
                     "\"maxPayload\":1000000}", c->fd);
    say(c, answer, (size_t)length);
    c->open = 1;
    return (size_t)(end + 4 - data);
}

static size_t one_frame(struct conn *c, char *data, size_t size) { /* its length, 0 if it is not whole */
    uint8_t *head = (uint8_t *)data;
    size_t start = 6, length;
    if (size < 6) return 0;
    length = head[1] & 127;
    if (length == 126) { length = (size_t)head[2] << 8 | head[3]; start = 8; }
    else if (length == 127) {
        if (size < 14) return 0;
        length = 0;
        for (int i = 2; i < 10; i++) length = length << 8 | head[i];
        start = 14;
    }
    if (size < start + length) return 0;
    for (size_t i = 0; i < length; i++) data[start + i] ^= data[start - 4 + (i & 3)];
    if ((head[0] & 15) == 1) on_message(c, data + start, length);
    else if ((head[0] & 15) == 8) bury(c);
    return start + length;
}

static void on_readable(struct conn *c) {
    static char data[2 * READ_BYTES + 1];
    if (c->in_size > READ_BYTES) { bury(c); return; }
    memcpy(data, c->in, c->in_size);
    ssize_t got = recv(c->fd, data + c->in_size, READ_BYTES, MSG_DONTWAIT);
    if (got <= 0) { if (got == 0 || errno != EAGAIN) bury(c); return; }
    size_t size = c->in_size + (size_t)got, at = 0, step;
    while (!c->dead && at < size && (step = c->open ? one_frame(c, data + at, size - at) : upgrade(c, data + at, size - at)))
        at += step;
    free(c->in);
    c->in = NULL;
    if ((c->in_size = size - at)) memcpy(c->in = need(malloc(c->in_size)), data + at, c->in_size);
}

static void welcome(int listener) {
    for (int fd, one = 1; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        struct conn *c = need(calloc(1, sizeof *c));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

static void bury_the_dead(void) { /* only between two batches: an event of the batch may point at one of them */
    while (dead) {
        struct conn *c = dead;
        dead = c->next_dead;
        leave_all(c);
        entered -= (size_t)c->entered;
        close(c->fd);
        free(c->in);
        free(c->out);
        free(c);
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event events[BATCH], event = {.events = EPOLLIN, .data.ptr = NULL};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (argc != 2) { fprintf(stderr, "usage: floor PORT\n"); return 2; }
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) { perror("listen"); return 1; }
    poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poller, events, BATCH, -1);
        for (int i = 0; i < count; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) { welcome(listener); continue; }
            if (c->dead) continue;
            if (events[i].events & EPOLLOUT && c->out_size) drain(c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !c->dead) on_readable(c);
        }
        bury_the_dead();
    }
}
