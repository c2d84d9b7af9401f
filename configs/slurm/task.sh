#!/bin/bash
# One task of train.sbatch: runs its arguments as a command and prints the exit code on stdout. srun
# returns only the highest code of all tasks, so a user error (2) would hide behind the 138 of the
# other workers.

# Slurm may signal this shell only, or the command too: fv.train takes two signals at once for one.
# The trap is set first: a signal that arrives while the command starts is passed on when its
# process is known.
stopped= command=
trap 'stopped=1; kill -TERM "$command" 2>/dev/null' TERM
"$@" &
command=$!
[[ -z $stopped ]] || kill -TERM "$command" 2>/dev/null
while kill -0 "$command" 2>/dev/null; do
    wait "$command"
done
wait "$command"
code=$?

echo "task ${SLURM_PROCID:-0} ended with $code"
exit "$code"
