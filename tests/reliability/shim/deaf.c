/* deaf HOST PORT COUNT RCVBUF PATH: subscribers that never read. Each has the smallest receive
 * buffer it can get (RCVBUF is raised to the kernel's least), upgrades, takes the first byte of the
 * answer and no more. Says "ready" when all are connected, and stays until its input ends. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    int rcvbuf = atoi(argv[4]);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
        return 2;
    for (int i = atoi(argv[3]); i > 0; i--) {
        char text[1024], first;
        int n =
            snprintf(text, sizeof text,
                     "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                     argv[5]);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) || write(fd, text, (size_t)n) != n ||
            read(fd, &first, 1) != 1 || first != 'H') {
            perror("deaf");
            return 1;
        }
    }
    puts("ready");
    fflush(stdout);
    char c;
    while (read(0, &c, 1) > 0)
        ;
    return 0;
}
