/*
 * The pause process: holds a pod's namespaces open, and holds the node's PID
 * namespace open as its process 1. It reaps orphans and ends on SIGTERM or
 * SIGINT; as process 1 nobody else would do either.
 */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

static void reap(void)
{
	while (waitpid(-1, 0, WNOHANG) > 0)
		;
}

int main(void)
{
	sigset_t wanted;

	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigaddset(&wanted, SIGTERM);
	sigaddset(&wanted, SIGINT);
	/* Blocked and waited for, so that no signal is lost between two waits. */
	if (sigprocmask(SIG_BLOCK, &wanted, 0) != 0)
		return 1;
	/* Children that ended before this program took over are waiting. */
	reap();
	for (;;) {
		int got = sigwaitinfo(&wanted, 0);

		if (got == SIGCHLD)
			reap();
		else if (got == SIGTERM || got == SIGINT)
			return 0;
		else if (got == -1 && errno != EINTR)
			return 1;
	}
}
