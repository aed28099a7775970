"""One run of a program: what it said, what it cost, and what it may cost at most."""

import os
import resource
import subprocess
import tempfile


def allow(limit):
    """`limit` of processor time, as one for this machine now: see tests/support/pace.h."""
    return limit * float(subprocess.run([os.environ["GDN_PACE"]], stdout=subprocess.PIPE, check=True, text=True).stdout)


class Run:
    """`seconds` of processor time, user and system, whatever else the machine does; `mebibytes` of memory at the peak."""

    def __init__(self, arguments, cwd=None, limit=None, alarm=60):
        """`limit`: mebibytes of address space that the program may have; `alarm`: processor seconds after which it is killed."""
        def limits():
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_AS, (limit << 20, limit << 20))
            resource.setrlimit(resource.RLIMIT_CPU, (alarm, alarm))
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen([str(word) for word in arguments], cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, preexec_fn=limits)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.returncode = process.returncode
            self.seconds = used.ru_utime + used.ru_stime
            self.mebibytes = used.ru_maxrss / 1024
            out.seek(0)
            errors.seek(0)
            self.stdout = out.read().decode(errors="replace")
            self.stderr = errors.read().decode(errors="replace")
