/* Requests and answers of one byte over TCP, one after the other: how long a way there and back takes.
 *
 *   answers serve PORT                  sends back what comes, one client after the other
 *   answers ask ADDRESS PORT SECONDS    asks for so long; prints how many answers came in a second
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int tcp(void)
{
	int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return s;
}

static int serve(struct sockaddr_in *at)
{
	char byte;
	int client, one = 1, s = tcp();
	at->sin_addr.s_addr = htonl(INADDR_ANY);
	if (bind(s, (struct sockaddr *)at, sizeof *at) || listen(s, 8))
		return fail("listen");
	while ((client = accept(s, NULL, NULL)) >= 0) {
		setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		while (read(client, &byte, 1) == 1 && write(client, &byte, 1) == 1)
			;
		close(client);
	}
	return fail("accept");
}

static int ask(struct sockaddr_in *at, double seconds)
{
	char byte = 'x';
	long count = 0;
	double start;
	int s = tcp();
	if (connect(s, (struct sockaddr *)at, sizeof *at))
		return fail("connect");
	for (start = now(); now() - start < seconds; count++)
		if (write(s, &byte, 1) != 1 || read(s, &byte, 1) != 1)
			return fail("answer");
	printf("%.0f answers/sec\n", count / (now() - start));
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	if (argc == 3 && !strcmp(argv[1], "serve")) {
		at.sin_port = htons(atoi(argv[2]));
		return serve(&at);
	}
	if (argc == 5 && !strcmp(argv[1], "ask") && inet_aton(argv[2], &at.sin_addr)) {
		at.sin_port = htons(atoi(argv[3]));
		return ask(&at, atof(argv[4]));
	}
	fprintf(stderr, "answers serve PORT | answers ask ADDRESS PORT SECONDS\n");
	return 2;
}
