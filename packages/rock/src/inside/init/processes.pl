# --- processes: who they are, and how they begin and end ----------------------------------------------------------------------------

# "uid gid group,group,…"
sub identity { my ($uid, $gid, $groups) = split ' ', $_[0]; [$uid + 0, $gid + 0, map { $_ + 0 } split /,/, $groups // ''] }

# In a fresh child: nothing of PID 1 stays within reach, and a workload dies of memory before PID 1 does.
sub become {
  my ($identity, $cwd) = @_;
  my ($uid, $gid, @groups) = @$identity;
  my $none = pack('Q', 0);
  syscall($SYS->{rt_sigprocmask}, 2, $none, 0, 8);
  $SIG{PIPE} = 'DEFAULT';
  if (open(my $oom, '>', '/proc/self/oom_score_adj')) { syswrite($oom, '500'); close $oom }
  my $groups = pack('L*', @groups);
  if ($uid) { syscall($SYS->{prctl}, 24, $_, 0, 0, 0) for 0 .. 40 } # PR_CAPBSET_DROP
  syscall($SYS->{setgroups}, scalar @groups, $groups) == 0 && syscall($SYS->{setresgid}, $gid, $gid, $gid) == 0
    && syscall($SYS->{setresuid}, $uid, $uid, $uid) == 0 or die "cannot become user $uid: $!\n";
  umask 022;
  chdir $cwd or die "cannot enter $cwd: $!\n";
}

# Runs `body`, which ends in exec, in a child. What it dies of goes to `complaints`, a pipe that closes when it succeeds.
sub spawn_child {
  my ($complaints, $body) = @_;
  my $pid = fork;
  return $pid if !defined $pid || $pid;
  eval { $body->(); 1 };
  syswrite($complaints, $@ || "failed\n");
  syscall($SYS->{exit_group}, 127);
}

# dup to a high number first: a source may sit where another target belongs.
sub move_fds {
  my @moves = @_;
  my $F_DUPFD_CLOEXEC = 1030;
  my @high = map { [syscall($SYS->{fcntl}, fileno $_->[0], $F_DUPFD_CLOEXEC, 64), $_->[1]] } @moves;
  for (@high) {
    syscall($SYS->{dup3}, $_->[0], $_->[1], 0) >= 0 or die "dup: $!\n";
  }
}

# A pseudo terminal that belongs to a user: both ends, or nothing.
sub terminal {
  my ($identity) = @_;
  my ($TIOCSPTLCK, $TIOCGPTN, $RDWR_NOCTTY) = (0x40045431, 0x80045430, 0402);
  sysopen(my $master, '/dev/ptmx', $RDWR_NOCTTY) or return;
  my ($unlock, $number) = (pack('i', 0), pack('i', 0));
  ioctl($master, $TIOCSPTLCK, $unlock) && ioctl($master, $TIOCGPTN, $number) or return;
  sysopen(my $slave, '/dev/pts/' . unpack('i', $number), $RDWR_NOCTTY) or return;
  chown($identity->[0], -1, $slave);
  ($master, $slave);
}

sub resize_terminal { my ($master, $rows, $cols) = @_; my $size = pack('S4', $rows, $cols, 0, 0); ioctl($master, 0x5414, $size) } # TIOCSWINSZ

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

my $LOAD;

# Now, to tell what began later: clock ticks since boot (the unit of `start`), and within a tick the last process that began.
sub moment {
  sysopen($LOAD, '/proc/loadavg', 0) if !$LOAD;
  sysseek($LOAD, 0, 0);
  sysread($LOAD, my $line, 100);
  (int(clock(7) * 100), ($line // '') =~ /(\d+)$/ ? $1 : 0);
}

sub began_before { my ($p, $job) = @_; $p->{start} < $job->{ticks} || $p->{start} == $job->{ticks} && $p->{pid} <= $job->{last_pid} }

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

# wait(2) status to a shell's exit code.
sub code_of { my ($w) = @_; $w & 127 ? 128 + ($w & 127) : $w >> 8 }

# --- ending what runs ---------------------------------------------------------------------------------------------------------------

my ($TERMINATION_GRACE, $INTERRUPT_GRACE) = (0.4, 1);

# A shell is only interrupted, so that its directory and variables outlive the command. It gives a command up only if the
# program it waits for dies of that same interrupt; so there is one before the killing starts. Its group gets it as from a terminal, all
# at once: one after the other, the end of a pipeline would end well because its beginning died first.
sub kill_job {
  my ($job, $signal) = @_;
  if (!$job->{shell}) { kill 9, $job->{pid}, processes_of($job); return }
  return if !$job->{begun};
  kill 2, -$job->{pid};
  kill $signal, $signal == 2 ? processes_of($job, $job->{pid}) : processes_of($job);
}

# Whoever is told that it ended must not meet what it left. Bounded, because a process in the middle of a system call can take its time.
sub end_for_good {
  my @pids = @_ or return;
  kill 9, @pids;
  for (1 .. 50) {
    my %there = map { $_->{pid} => 1 } process_table();
    return if !grep { $there{$_} } @pids;
    select(undef, undef, undef, 0.002);
  }
}

sub begin_end {
  my ($job, $why) = @_;
  return if $job->{ending} || defined $job->{status};
  mark_ending($job, $why);
  $job->{patient_until} = now() + $INTERRUPT_GRACE if $why eq 'interrupted';
  $job->{shell} ? interrupt_shell($job) : kill_job($job, 9);
}

sub mark_ending {
  my ($job, $why) = @_;
  $job->{ending} ||= $why;
  $job->{give_up} ||= now() + $TERMINATION_GRACE;
}

sub expire {
  my $now = now();
  for my $job (values %jobs) {
    next if defined $job->{status};
    if (!$job->{ending}) { begin_end($job, 'timeout') if $now >= $job->{deadline}; next }
    if ($job->{patient_until}) {
      next if $now < $job->{patient_until};
      # It did not listen. From here on an interrupt is like any other end.
      delete $job->{patient_until};
      $job->{forced} = 1;
      $job->{give_up} = $now + $TERMINATION_GRACE;
    }
    if ($now < $job->{give_up}) { kill_job($job, 9); next }
    # It did not let go: the shell goes too, and whatever still multiplies with it.
    kill 9, $job->{pid};
    if ($now >= $job->{give_up} + $TERMINATION_GRACE) { kill 9, -1; $job->{give_up} = $now + 60 }
  }
}

# Seconds until something has to be done; undef where nothing is to come.
sub next_wait {
  my $soonest;
  for my $job (values %jobs) {
    next if defined $job->{status};
    my $at = !$job->{ending} ? $job->{deadline} : $job->{patient_until} || now() + 0.01;
    $soonest = $at if !defined $soonest || $at < $soonest;
  }
  return undef if !defined $soonest;
  my $wait = $soonest - now();
  $wait < 0 ? 0 : $wait;
}
