// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// main.c: the program profd. Everything else is in the collector's library, so that tests can link it.

#include "collector/cli.h"
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

// A file of ours must never become fd 0, 1 or 2 because that one was closed: messages would be written into it.
static void main_open_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC); // to a command they stay as closed as they were
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	main_open_standard_fds();
	return cli_main(argc, argv);
}
