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

my $LOAD;

# Now, to tell what began later: clock ticks since boot (the unit of `start`), and within a tick the last process that began.
sub moment {
  sysopen($LOAD, '/proc/loadavg', 0) if !$LOAD;
  sysseek($LOAD, 0, 0);
  sysread($LOAD, my $line, 100);
  (int(clock(7) * 100), ($line // '') =~ /(\d+)$/ ? $1 : 0);
}

# wait(2) status to a shell's exit code.
sub code_of { my ($w) = @_; $w & 127 ? 128 + ($w & 127) : $w >> 8 }
