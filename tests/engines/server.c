// A server of a page, linked with musl by the script `images`: one process, one port, which finishes what it answers at SIGTERM.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile sig_atomic_t asked_to_stop;

static void on_term(int signal) { asked_to_stop = signal; }

int main(void) {
  struct sigaction action = {.sa_handler = on_term};
  sigset_t term, before;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, &before);
  sigaction(SIGTERM, &action, NULL);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = INADDR_ANY};
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 128) != 0) {
    perror("cannot listen");
    return 1;
  }
  printf("listens on 8080\n");
  fflush(stdout);
  while (!asked_to_stop) {
    struct pollfd waits = {.fd = listener, .events = POLLIN};
    // SIGTERM arrives only while it waits, so that every connection that was accepted is answered.
    if (ppoll(&waits, 1, NULL, &before) < 1) continue;
    int client = accept(listener, NULL, NULL);
    if (client < 0) continue;
    char request[4096];
    const char page[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
    if (recv(client, request, sizeof request, 0) > 0) send(client, page, sizeof page - 1, MSG_NOSIGNAL);
    shutdown(client, SHUT_WR);
    while (recv(client, request, sizeof request, 0) > 0) {}
    close(client);
  }
  return 0;
}
