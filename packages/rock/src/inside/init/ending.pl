# --- ending what runs ---------------------------------------------------------------------------------------------------------------

# In seconds of our own attention: where the machine, or the sandbox's share of it, stands still, we and the shell stand still together,
# and a shell that had no turn must not be taken for one that does not listen. One look counts for no more than so long.
my ($TERMINATION_GRACE, $INTERRUPT_GRACE, $LONGEST_LOOK) = (0.4, 1, 0.02);
# Nor does a look count at which the shell has work and waits for its turn; but for so many seconds no longer.
my $LONGEST_HUNGER = 5;
my ($INTERRUPT, $CUT) = (2, 64); # the second one: see cut

# A shell is only interrupted, so that its directory and variables outlive the command.
sub kill_job {
  my ($job) = @_;
  if (!$job->{shell}) { kill 9, $job->{pid}, processes_of($job); return }
  return if !$job->{begun};
  # Without our trap the death of one program would only begin the next one of the list.
  cut($job) or kill 9, $job->{pid};
  kill_all(processes_of($job));
}

# Stopped before any of them dies: who sees another one die may go on with what comes next.
sub kill_all { kill 19, @_; kill 9, @_ }

# Whoever is told that it ended must not meet what it left. Bounded, because a process in the middle of a system call can take its time.
sub end_for_good {
  my ($job) = @_;
  for (1 .. 50) {
    my @pids = processes_of($job) or return;
    kill_all(@pids);
    select(undef, undef, undef, 0.002);
  }
}

# --- interrupts -------------------------------------------------------------------------------------------------------------------------

# A shell by itself gives the rest of a command up only if the program that it waits for dies of the interrupt: not if that answers it,
# ignores it, or was no program yet and did not hear it. So there is a signal that it has a trap for (session.sh). False where it has none.
sub cut { my ($job) = @_; catches($job->{pid}, $CUT) && kill $CUT, $job->{pid} }

# The shell's group gets it as from a terminal, all at once: one after the other, the end of a pipeline would end well because its
# beginning died first. The shell finds both signals together: between them it could begin its next program.
sub interrupt_job {
  my ($job) = @_;
  kill 19, $job->{pid};
  kill $INTERRUPT, -$job->{pid};
  cut($job);
  kill $INTERRUPT, processes_of($job, $job->{pid});
  kill 18, $job->{pid};
}

# A child of a shell hears nothing until it has become a program; so those get it again that it would end. What is in the background
# ignores it. True while there are such.
sub interrupt_deaf {
  my ($job) = @_;
  my $there = 0;
  for my $pid (processes_of($job)) {
    my $answers = answers($pid, $INTERRUPT);
    $there = 1 if !$answers || catches($pid, $CUT);
    kill $INTERRUPT, $pid if !$answers;
  }
  $there;
}

# A bash that runs the command's own trap for interrupts forgets what else it got.
sub remind { my ($job) = @_; interrupt_deaf($job); cut($job) }

sub catches { my ($pid, $signal) = @_; has_signal($pid, $signal, 'Cgt') }
sub answers { my ($pid, $signal) = @_; has_signal($pid, $signal, 'Cgt|Ign|Blk') }

sub has_signal {
  my ($pid, $signal, $masks) = @_;
  open(my $status, '<', "/proc/$pid/status") or return 0;
  my ($digit, $bit) = (-1 - int(($signal - 1) / 4), 1 << ($signal - 1) % 4);
  scalar grep { /^Sig(?:$masks):\s*(\w+)/ && hex(substr($1, $digit, 1)) & $bit } <$status>;
}

# --- a job that has to end --------------------------------------------------------------------------------------------------------------

sub begin_end {
  my ($job, $why) = @_;
  return if $job->{ending} || defined $job->{status};
  mark_ending($job, $why);
  $job->{patience} = $INTERRUPT_GRACE if $why eq 'interrupted';
  $job->{shell} ? interrupt_shell($job) : kill_job($job);
}

sub mark_ending {
  my ($job, $why) = @_;
  $job->{ending} ||= $why;
  $job->{grace} //= $TERMINATION_GRACE;
  $job->{looked_at} //= now();
}

# Of a job that has been told to end.
sub insist {
  my ($job, $now) = @_;
  my $looked = time_looked($job, $now);
  if (defined $job->{patience}) {
    $job->{patience} -= $looked;
    if ($job->{patience} > 0) { remind($job) if $job->{begun}; return }
    # It did not listen. From here on an interrupt is like any other end.
    delete $job->{patience};
    $job->{forced} = 1;
    $job->{grace} = $TERMINATION_GRACE;
    $looked = 0;
  }
  $job->{grace} -= $looked;
  if ($job->{grace} > 0) { kill_job($job); return }
  # It did not let go: the shell goes too, and whatever still multiplies with it.
  kill 9, $job->{pid};
  if ($job->{grace} <= -$TERMINATION_GRACE) { kill 9, -1; $job->{grace} = 60 }
}

sub time_looked {
  my ($job, $now) = @_;
  my $looked = $now - $job->{looked_at};
  $job->{looked_at} = $now;
  if ($job->{shell} && ($job->{hungry} // 0) < $LONGEST_HUNGER && state_of($job->{pid}) eq 'R') { $job->{hungry} += $looked; return 0 }
  $looked < $LONGEST_LOOK ? $looked : $LONGEST_LOOK;
}

sub state_of {
  my ($pid) = @_;
  open(my $stat, '<', "/proc/$pid/stat") or return '';
  my $line = <$stat> // '';
  substr($line, rindex($line, ')') + 2, 1);
}

# --- what there is to end --------------------------------------------------------------------------------------------------------------

sub process_table {
  opendir(my $proc, '/proc') or return ();
  my @table;
  for my $pid (grep { /^\d+$/ && $_ != 1 } readdir $proc) {
    open(my $stat, '<', "/proc/$pid/stat") or next;
    my $line = <$stat>; close $stat;
    next if !defined $line;
    my ($state, $ppid, $group, $sid, @rest) = split ' ', substr($line, rindex($line, ')') + 2);
    next if $state eq 'Z' || $state eq 'X';
    push @table, { pid => $pid, ppid => $ppid, group => $group, sid => $sid, start => $rest[15], uid => (stat "/proc/$pid")[4] };
  }
  @table;
}

sub began_before { my ($p, $job) = @_; $p->{start} < $job->{ticks} || $p->{start} == $job->{ticks} && $p->{pid} <= $job->{last_pid} }

sub known_pids { (keys %program_of, keys %shell_of) }

# A job's processes: its descendants, and orphans of its user that began after it did (a daemon leaves its parent, but not its
# birth date), unless they stayed in the session of another one. The job's own process is not among them, nor those of a
# group that is left out.
sub processes_of {
  my ($job, $but_group) = @_;
  my @table = process_table();
  my %mine = ($job->{pid} => 1);
  my %known = map { $_ => 1 } known_pids();
  for my $p (@table) {
    next if $p->{ppid} != 1 || $known{$p->{pid}} || began_before($p, $job) || $p->{uid} != $job->{uid};
    $mine{$p->{pid}} = 1 if $p->{sid} == $job->{pid} || !$known{$p->{sid}};
  }
  my $grew = 1;
  while ($grew) {
    $grew = 0;
    for my $p (@table) {
      next if $mine{$p->{pid}} || !$mine{$p->{ppid}};
      next if $job->{shell} && began_before($p, $job);
      $mine{$p->{pid}} = $grew = 1;
    }
  }
  delete $mine{$job->{pid}};
  map { $_->{pid} } grep { $mine{$_->{pid}} && $_->{group} != ($but_group // 0) } @table;
}

# --- ending all of it -----------------------------------------------------------------------------------------------------------------

# kill(-1) as PID 1 reaches every other process of the namespace at once, so nothing can fork its way out.
$handlers{killall} = sub {
  my ($id) = @_;
  for my $job (values %jobs) { mark_ending($job, 'killed') if !defined $job->{status} }
  for (1 .. 2000) {
    kill 9, -1;
    reap();
    last if !process_table();
    select(undef, undef, undef, 0.001);
  }
  send_frame('ok', $id);
};
