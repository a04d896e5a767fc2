/* A server that makes the calls which its words name, one after the other, on one socket. Each answer has the worker's number
   (its process group). A word may have a number behind a colon: `high:300`. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static int s = -1, epoll = -1, spare[4096], spares;
static char **word;
/* Where `stepblock` and `steppoll` pause. */
static int number_of_step;
/* `poll` or `select` has told of a connection, and no accept has followed. */
static int is_told;

static void say(const char *what) {
    char line[200];
    int length = snprintf(line, sizeof line, "%s\n", what);
    if (write(1, line, length)) {}
}

static void check(int result, const char *call) {
    if (result >= 0) return;
    char line[100];
    snprintf(line, sizeof line, "%s failed: %s", call, strerror(errno));
    say(line);
    exit(3);
}

static struct sockaddr_in address(void) {
    struct sockaddr_in all = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT")))};
    all.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return all;
}

static void answer(int connection) {
    char request[4096], all[200], body[40];
    ssize_t count;
    fcntl(connection, F_SETFL, 0);
    if ((count = read(connection, request, sizeof request)) > 0) {
        int length = snprintf(body, sizeof body, "pid %d\n", getpgrp());
        length = snprintf(all, sizeof all, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", length, body);
        if (write(connection, all, length)) {}
    }
    close(connection);
}

/* Accepts, and answers. False where there is no connection for now. Another process may have taken the one of which the
   program was told, which accept(2) reports as ECONNABORTED. */
static int serve_one(int flags) {
    int was_told = is_told;
    is_told = 0;
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    memset(&peer, 0, sizeof peer);
    int connection = flags < 0 ? accept(s, 0, 0) : accept4(s, (void *)&peer, &length, flags);
    if (connection < 0 && (errno == EAGAIN || errno == EMFILE || errno == EINTR)) return 0;
    if (connection < 0 && errno == ECONNABORTED && was_told) return say("accept: the connection is gone"), 0;
    check(connection, "accept");
    if (flags >= 0 && (peer.sin_family != AF_INET || ntohl(peer.sin_addr.s_addr) != INADDR_LOOPBACK || !peer.sin_port)) {
        say("accept gave a wrong address");
        exit(4);
    }
    int is_nonblocking = (fcntl(connection, F_GETFL) & O_NONBLOCK) != 0;
    if (is_nonblocking != (flags > 0 && (flags & SOCK_NONBLOCK) != 0)) {
        say("accept gave a wrong mode");
        exit(4);
    }
    answer(connection);
    return 1;
}

static void *in_accept(void *ignored) {
    int connection;
    while ((connection = accept(s, 0, 0)) >= 0) answer(connection);
    char line[100];
    snprintf(line, sizeof line, "accept ended: %d", errno);
    say(line);
    return ignored;
}

static void nothing(int ignored) {}

static volatile sig_atomic_t is_woken;
static void wake(int ignored) { is_woken = 1; }

/* Waits for SIGUSR1, in the first process that comes here: it makes the file $PAUSED. */
static void pause_at(int step) {
    if (step != number_of_step || open(getenv("PAUSED"), O_CREAT | O_EXCL | O_CLOEXEC, 0600) < 0) return;
    char line[100];
    snprintf(line, sizeof line, "paused %d", getpid());
    say(line);
    struct timespec moment = {0, 5000000};
    while (!is_woken) nanosleep(&moment, 0);
}

/* Accepts, reads and answers, and pauses at a step: 1, it is told of a connection; 2, it has accepted; 3, it has read. */
static void serve_in_steps(int does_poll) {
    struct pollfd polled = {.fd = s, .events = POLLIN};
    while (poll(&polled, 1, -1) < 0) {}
    pause_at(1);
    int connection = accept4(s, 0, 0, does_poll ? SOCK_NONBLOCK : 0);
    if (connection < 0) {
        if (errno == EAGAIN || errno == EMFILE || errno == EINTR || errno == ECONNABORTED) return;
        check(connection, "accept");
    }
    pause_at(2);
    char request[4096], path[100] = "", line[200];
    fcntl(connection, F_SETFL, 0);
    ssize_t count = read(connection, request, sizeof request - 1);
    request[count < 0 ? 0 : count] = 0;
    sscanf(request, "GET %99s", path);
    snprintf(line, sizeof line, "read %s", path);
    say(line);
    pause_at(3);
    char all[200], body[40];
    int length = snprintf(body, sizeof body, "pid %d\n", getpgrp());
    length = snprintf(all, sizeof all, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", length, body);
    if (write(connection, all, length)) {}
    close(connection);
}

static void fork_in_handler(int ignored) {
    pid_t child = fork();
    if (child == 0) {
        struct pollfd none = {.fd = -1};
        poll(&none, 1, 1);
        _exit(0);
    }
    waitpid(child, 0, 0);
}

static void *busy(void *ignored) {
    for (;;) {
        struct pollfd none = {.fd = -1};
        poll(&none, 1, 1);
    }
    return ignored;
}

static void pass_by_message(void) {
    int pair[2];
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    char space[CMSG_SPACE(sizeof(int))] = {0}, byte = 1;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    if (fork() != 0) {
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &s, sizeof s);
        check(sendmsg(pair[0], &message, 0), "sendmsg");
        close(s);
        for (;;) pause();
    }
    close(s);
    check(recvmsg(pair[1], &message, 0), "recvmsg");
    memcpy(&s, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof s);
}

/* Asks if the port is free, as programs do: by connecting, and by binding a socket that is closed again. */
static void look_for_port(void) {
    struct sockaddr_in own = address();
    int one = socket(AF_INET, SOCK_STREAM, 0);
    int result = connect(one, (void *)&own, sizeof own);
    say(result == 0 ? "the port answers" : errno == ECONNREFUSED ? "the port is free" : strerror(errno));
    close(one);
}

static void try_every_address(void) {
    struct sockaddr_in own = address();
    own.sin_addr.s_addr = htonl(INADDR_ANY);
    int one = socket(AF_INET, SOCK_STREAM, 0);
    say(bind(one, (void *)&own, sizeof own) == 0 ? "every address is free" : strerror(errno));
    close(one);
}

static int is(const char *name) {
    size_t length = strlen(name);
    return strncmp(*word, name, length) == 0 && ((*word)[length] == 0 || (*word)[length] == ':');
}

static int number(void) {
    const char *colon = strchr(*word, ':');
    return colon ? atoi(colon + 1) : 0;
}

static void call(char **all) {
    int one = 1, n = number();
    struct sockaddr_in own = address(), name;
    socklen_t length = sizeof name;
    struct pollfd polled = {.fd = s, .events = POLLIN};
    struct epoll_event event = {.events = POLLIN};
    fd_set set;
    pthread_t thread;
    if (is("socket")) check(s = socket(AF_INET, SOCK_STREAM, 0), "socket");
    else if (is("reuseaddr")) setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    else if (is("reuseport")) setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    else if (is("bind")) check(bind(s, (void *)&own, sizeof own), "bind");
    else if (is("listen")) check(listen(s, 64), "listen");
    else if (is("nonblock")) check(ioctl(s, FIONBIO, &one), "ioctl");
    else if (is("flags")) say(fcntl(s, F_GETFL) & O_NONBLOCK ? "it does not block" : "it blocks");
    else if (is("setfl")) check(fcntl(s, F_SETFL, fcntl(s, F_GETFL) | O_NONBLOCK), "fcntl");
    else if (is("block")) one = 0, check(ioctl(s, FIONBIO, &one), "ioctl");
    else if (is("timeout")) {
        struct timeval limit = {n / 1000, n % 1000 * 1000};
        check(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), "setsockopt");
    }
    else if (is("poll")) is_told = poll(&polled, 1, n) > 0;
    else if (is("pollmany")) {
        struct pollfd many[100];
        for (int at = 0; at < 100; at++) many[at] = (struct pollfd){.fd = at == 99 ? s : dup(0), .events = POLLIN};
        is_told = poll(many, 100, n) > 0;
    }
    else if (is("select")) {
        struct timeval limit = {n / 1000, n % 1000 * 1000};
        FD_ZERO(&set);
        FD_SET(s, &set);
        is_told = select(s + 1, &set, 0, 0, &limit) > 0;
    }
    else if (is("epoll")) {
        check(epoll = epoll_create1(0), "epoll_create1");
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, s, &event), "epoll_ctl");
    }
    else if (is("epolledge")) {
        event.events = POLLIN | EPOLLET;
        check(epoll = epoll_create1(0), "epoll_create1");
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, s, &event), "epoll_ctl");
    }
    else if (is("epollnothing")) {
        event.events = 0;
        check(epoll = epoll_create1(0), "epoll_create1");
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, s, &event), "epoll_ctl");
    }
    else if (is("modify")) check(epoll_ctl(epoll, EPOLL_CTL_MOD, s, &event), "epoll_ctl");
    else if (is("wait")) epoll_wait(epoll, &event, 1, -1);
    else if (is("accept")) serve_one(-1);
    else if (is("accept4")) serve_one(SOCK_NONBLOCK | SOCK_CLOEXEC);
    else if (is("address")) serve_one(0);
    else if (is("tryaccept")) {
        int connection = accept(s, 0, 0);
        say(connection >= 0 ? "accept gave a connection" : errno == EAGAIN ? "accept: EAGAIN" : strerror(errno));
    }
    else if (is("dup")) { int old = s; check(s = dup(s), "dup"); close(old); }
    else if (is("high")) {
        struct rlimit limit;
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        int old = s; check(s = fcntl(s, F_DUPFD, n), "F_DUPFD");
        close(old);
    }
    else if (is("dup2")) { int old = s; check(s = dup2(s, n), "dup2"); close(old); }
    else if (is("fork")) { if (fork() != 0) for (;;) pause(); }
    else if (is("prefork")) { for (int at = 1; at < n && fork() != 0; at++) {} }
    else if (is("sendfd")) pass_by_message();
    else if (is("exec")) {
        char text[20];
        snprintf(text, sizeof text, "at:%d", s);
        word[0] = text;
        all[1] = "from";
        execv("/proc/self/exe", all);
        check(-1, "execv");
    }
    else if (is("at")) s = n;
    else if (is("clearenv")) { char *port = strdup(getenv("PORT")); clearenv(); setenv("PORT", port, 1); }
    else if (is("close")) close(s);
    else if (is("name")) {
        check(getsockname(s, (void *)&name, &length), "getsockname");
        if (name.sin_port != own.sin_port || length != sizeof own) say("getsockname gave a wrong address"), exit(4);
    }
    else if (is("peer")) say(getpeername(s, (void *)&name, &length) < 0 && errno == ENOTCONN ? "no peer" : "a peer");
    else if (is("options")) {
        int listens = 0, kind = 0, domain = 0;
        socklen_t size = sizeof listens;
        getsockopt(s, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
        getsockopt(s, SOL_SOCKET, SO_TYPE, &kind, &size);
        getsockopt(s, SOL_SOCKET, SO_DOMAIN, &domain, &size);
        char line[100];
        snprintf(line, sizeof line, "listens %d stream %d inet %d", listens, kind == SOCK_STREAM, domain == AF_INET);
        say(line);
    }
    else if (is("thread")) { pthread_create(&thread, 0, in_accept, 0); usleep(300000); }
    else if (is("threads")) { for (int at = 0; at < n; at++) pthread_create(&thread, 0, busy, 0); }
    else if (is("cancel")) {
        pthread_create(&thread, 0, in_accept, 0);
        usleep(300000);
        pthread_cancel(thread);
        pthread_join(thread, 0);
        say("cancelled");
    }
    else if (is("shutdown")) { check(shutdown(s, SHUT_RDWR), "shutdown"); usleep(300000); }
    else if (is("handler")) { struct sigaction action = {.sa_handler = nothing}; sigaction(SIGALRM, &action, 0); }
    else if (is("restart")) { struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART}; sigaction(SIGALRM, &action, 0); }
    else if (is("forkhandler")) { struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART}; sigaction(SIGALRM, &action, 0); }
    else if (is("alarm")) { struct itimerval time = {{0, n * 1000}, {0, n * 1000}}; setitimer(ITIMER_REAL, &time, 0); }
    else if (is("fill")) {
        struct rlimit limit = {64, 64};
        setrlimit(RLIMIT_NOFILE, &limit);
        for (int got; (got = dup(0)) >= 0 && spares < 4096;) spare[spares++] = got;
        say("no descriptor left");
    }
    else if (is("free")) { while (spares) close(spare[--spares]); }
    else if (is("look")) look_for_port();
    else if (is("lookfork")) { pid_t child = fork(); if (child == 0) look_for_port(), _exit(0); waitpid(child, 0, 0); }
    else if (is("chroot")) {
        check(chroot("/proc/self/fdinfo"), "chroot");
        say(getenv("LD_PRELOAD") ? getenv("LD_PRELOAD") : "no library");
    }
    else if (is("try")) try_every_address();
    else if (is("sleep")) usleep(n * 1000);
    else if (is("say")) say(*word);
    else if (is("serve")) for (;;) serve_one(-1);
    else if (is("blockserve")) in_accept(0);
    else if (is("sweep")) for (;;) { serve_one(-1); for (int fd = 3; fd < 1024; fd++) if (fd != s) close(fd); }
    else if (is("usr1")) { struct sigaction action = {.sa_handler = wake, .sa_flags = SA_RESTART}; sigaction(SIGUSR1, &action, 0); }
    else if (is("stepblock")) for (number_of_step = n;;) serve_in_steps(0);
    else if (is("steppoll")) for (number_of_step = n, check(ioctl(s, FIONBIO, &one), "ioctl");;) serve_in_steps(1);
    else if (is("pollserve")) for (;;) { poll(&polled, 1, -1); while (serve_one(SOCK_NONBLOCK)) {} }
    else if (is("pollblock")) for (;;) { is_told = poll(&polled, 1, -1) > 0; serve_one(-1); }
    else if (is("epollserve")) for (;;) { epoll_wait(epoll, &event, 1, -1); while (serve_one(SOCK_CLOEXEC | SOCK_NONBLOCK)) {} }
    else if (is("stay")) for (;;) pause();
    else say("unknown word"), exit(5);
}

int main(int count, char **all) {
    /* After `exec` the words begin behind the one that was `exec`. */
    word = all + 1;
    if (strcmp(*word, "from") == 0) while (strncmp(*word, "at:", 3) != 0) word++;
    for (; *word; word++) call(all);
    return 0;
}
