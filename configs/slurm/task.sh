#!/bin/bash
# One task of train.sbatch: runs the command that it is given, and says on stdout with which code that ended. srun itself hands
# on the highest code of all tasks, in which one worker's mistake (2) hides behind the 138 of those that then lost it.

# Slurm may signal this shell alone, or the command as well, which takes two signals at once for one. The trap comes first:
# a signal that arrives while the command starts is handed on once its process is known.
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
