# PID 1 of every sandbox. Root-owned, it starts the agent's shell and the driver's programs, caps and collects their output,
# enforces their deadlines, and reaps every orphan. It speaks frames with the driver on fd 0 and fd 1: a 32-bit length, then
# strings that each carry a 32-bit length (control.ts is the other end). When the driver goes away, fd 0 ends and so does
# everything here, because the kernel ends a pid namespace with its first process. It loads no module: it has to start in a
# millisecond, and perl-base is all it can count on.
$0 = 'init';
$SIG{PIPE} = 'IGNORE';
binmode STDIN; binmode STDOUT;

my ($SYS, $AGENT, $WORKDIR, $SHELL_SCRIPT, %ENVIRONMENT);
my (%jobs, $shell, $signals, $inbox);
my ($EAGAIN, $EINTR, $WNOHANG, $FIONREAD) = (11, 4, 1, 0x541B);
my $TERMINATION_GRACE = 0.4;

sub now { my $t = pack('q2', 0, 0); syscall($SYS->{clock_gettime}, 1, $t); my ($s, $n) = unpack('q2', $t); $s + $n / 1e9 }
sub frame { my $p = pack('(N/a*)*', @_); pack('N/a*', $p) }

sub send_frame {
  my $data = frame(@_);
  while (length $data) {
    my $n = syswrite(STDOUT, $data);
    if (defined $n) { substr($data, 0, $n) = '' }
    elsif ($! != $EINTR) { exit 0 }
  }
}

# --- output: the first and the last bytes are kept, all are counted ---------------------------------------------------------

sub sink { { limit => $_[0], head => '', tail => '', total => 0 } }

sub take {
  my ($sink, $chunk) = @_;
  my $half = $sink->{limit} >> 1;
  $sink->{total} += length $chunk;
  my $room = $half - length $sink->{head};
  if ($room > 0) { $sink->{head} .= substr($chunk, 0, $room); $chunk = length $chunk > $room ? substr($chunk, $room) : '' }
  $sink->{tail} .= $chunk;
  my $keep = $sink->{limit} - $half;
  $sink->{tail} = substr($sink->{tail}, -$keep) if length $sink->{tail} > 2 * $keep;
}

sub settle {
  my ($sink) = @_;
  my $keep = $sink->{limit} - ($sink->{limit} >> 1);
  $sink->{tail} = substr($sink->{tail}, -$keep) if length $sink->{tail} > $keep;
  ($sink->{total}, $sink->{head}, $sink->{tail});
}

# One read of what is there; false at the end of the stream.
sub pump {
  my ($handle, $sink) = @_;
  my $n = sysread($handle, my $chunk, 65536);
  return 1 if !defined $n && ($! == $EINTR || $! == $EAGAIN);
  return 0 if !$n;
  take($sink, $chunk);
  1;
}

# Reads what was written before now and not more, so that a process left in the background cannot hold up the result.
sub drain {
  my ($handle, $sink) = @_;
  my $size = pack('i', 0);
  ioctl($handle, $FIONREAD, $size) or return;
  my $left = unpack('i', $size);
  while ($left > 0) {
    my $n = sysread($handle, my $chunk, $left > 65536 ? 65536 : $left);
    last if !$n;
    take($sink, $chunk);
    $left -= $n;
  }
}

# --- starting processes -----------------------------------------------------------------------------------------------------

# In a fresh child: nothing of PID 1 stays within reach, and a workload dies of memory before PID 1 does.
sub become {
  my ($user, $cwd) = @_;
  syscall($SYS->{setsid});
  my $none = pack('Q', 0);
  syscall($SYS->{rt_sigprocmask}, 2, $none, 0, 8);
  $SIG{PIPE} = 'DEFAULT';
  if (open(my $oom, '>', '/proc/self/oom_score_adj')) { syswrite($oom, '500'); close $oom }
  if ($user eq 'agent') {
    my ($uid, $gid) = @$AGENT;
    syscall($SYS->{prctl}, 24, $_, 0, 0, 0) for 0 .. 40; # PR_CAPBSET_DROP
    my $groups = pack('L', $gid);
    syscall($SYS->{setgroups}, 1, $groups) == 0 && syscall($SYS->{setresgid}, $gid, $gid, $gid) == 0
      && syscall($SYS->{setresuid}, $uid, $uid, $uid) == 0 or die "cannot become the agent: $!\n";
  }
  umask 022;
  chdir $cwd or die "cannot enter $cwd: $!\n";
}

sub spawn_child {
  my ($body) = @_;
  my $pid = fork;
  return $pid if !defined $pid || $pid;
  eval { $body->(); 1 };
  my $message = $@ || "failed\n";
  syswrite(STDERR, $message);
  syscall($SYS->{exit_group}, 127);
}

# An interactive bash asks its terminal for its settings whenever a command dies of a signal, and complains into the command's
# output where it has none. So it gets one, which carries nothing: nobody reads or writes it, and commands do not see it.
sub terminal {
  my ($TIOCSPTLCK, $TIOCGPTN, $RDWR_NOCTTY) = (0x40045431, 0x80045430, 0402);
  sysopen(my $master, '/dev/ptmx', $RDWR_NOCTTY) or return;
  my ($unlock, $number) = (pack('i', 0), pack('i', 0));
  ioctl($master, $TIOCSPTLCK, $unlock) && ioctl($master, $TIOCGPTN, $number) or return;
  sysopen(my $slave, '/dev/pts/' . unpack('i', $number), $RDWR_NOCTTY) or return;
  ($master, $slave);
}

sub start_shell {
  my ($master, $slave) = terminal();
  my ($cmd_r, $cmd_w, $data_r, $data_w, $ctl_r, $ctl_w, $out_r, $out_w);
  pipe($cmd_r, $cmd_w); pipe($data_r, $data_w); pipe($ctl_r, $ctl_w); pipe($out_r, $out_w);
  my $pid = spawn_child(sub {
    open(my $null, '+<', '/dev/null');
    chown(@$AGENT, $out_w); # or opening /dev/stderr is refused
    become('agent', $WORKDIR);
    move_fds([$cmd_r, 0], [$null, 1], [$slave || $null, 2], [$out_w, 7], [$ctl_w, 8], [$data_r, 9]);
    %ENV = %ENVIRONMENT;
    exec { '/bin/bash' } 'bash', '--norc', '--noprofile', '--noediting', '-i';
    die "cannot start bash: $!\n";
  });
  if (!defined $pid) { $shell = undef; return 0 }
  close $_ for $cmd_r, $data_r, $ctl_w, $out_w;
  unblock($data_w);
  $shell = { pid => $pid, cmd => $cmd_w, data => $data_w, ctl => $ctl_r, out => $out_r, ctl_buffer => '', terminal => $master };
  write_all($cmd_w, $SHELL_SCRIPT);
  1;
}

# dup to a high number first: a source may sit where another target belongs.
sub move_fds {
  my @moves = @_;
  my $F_DUPFD = 0;
  my @high = map { [syscall($SYS->{fcntl}, fileno $_->[0], $F_DUPFD, 64), $_->[1]] } @moves;
  for (@high) {
    syscall($SYS->{dup3}, $_->[0], $_->[1], 0) >= 0 or die "dup: $!\n";
  }
  syscall($SYS->{close}, $_->[0]) for @high;
}

sub unblock { my ($handle) = @_; syscall($SYS->{fcntl}, fileno $handle, 4, 04000) } # F_SETFL, O_NONBLOCK

# Writes what fits; closes the job's end when all is written or the reader is gone.
sub feed {
  my ($job) = @_;
  my $n = syswrite($job->{in}, $job->{in_left});
  if (defined $n) { substr($job->{in_left}, 0, $n) = '' }
  elsif ($! == $EINTR || $! == $EAGAIN) { return }
  else { $job->{in_left} = '' }
  delete $job->{in} if !length $job->{in_left};
}

sub write_all {
  my ($handle, $data) = @_;
  while (length $data) {
    my $n = syswrite($handle, $data);
    if (defined $n) { substr($data, 0, $n) = '' }
    elsif ($! != $EINTR) { return 0 }
  }
  1;
}

# --- what runs --------------------------------------------------------------------------------------------------------------

sub process_table {
  opendir(my $proc, '/proc') or return ();
  my @table;
  for my $pid (grep { /^\d+$/ && $_ != 1 } readdir $proc) {
    open(my $stat, '<', "/proc/$pid/stat") or next;
    my $line = <$stat>; close $stat;
    next if !defined $line;
    my ($state, $ppid, undef, $sid, @rest) = split ' ', substr($line, rindex($line, ')') + 2);
    next if $state eq 'Z' || $state eq 'X';
    push @table, { pid => $pid, ppid => $ppid, sid => $sid, start => $rest[15], uid => (stat "/proc/$pid")[4] };
  }
  @table;
}

# Clock ticks since boot, the unit of `start`.
sub ticks { int(now_boot() * 100) }
sub now_boot { my $t = pack('q2', 0, 0); syscall($SYS->{clock_gettime}, 7, $t); my ($s, $n) = unpack('q2', $t); $s + $n / 1e9 }

# A job's processes: its descendants, and orphans of its user that began after it did (a daemon leaves its parent, but not its
# birth date). The job's own process is not among them.
sub processes_of {
  my ($job) = @_;
  my @table = process_table();
  my %mine = ($job->{pid} => 1);
  my %known = map { $_->{pid} => 1 } grep { $_ && $_->{pid} } values %jobs, $shell;
  for my $p (@table) {
    $mine{$p->{pid}} = 1 if $p->{ppid} == 1 && !$known{$p->{pid}} && $p->{start} >= $job->{ticks} && $p->{uid} == $job->{uid};
  }
  my $grew = 1;
  while ($grew) {
    $grew = 0;
    for my $p (@table) {
      next if $mine{$p->{pid}} || !$mine{$p->{ppid}};
      next if $job->{kind} eq 'shell' && $p->{start} < $job->{ticks};
      $mine{$p->{pid}} = $grew = 1;
    }
  }
  delete $mine{$job->{pid}};
  keys %mine;
}

# The shell is only interrupted, so that its directory and variables outlive the command. It gives a command up only if the
# program it waits for dies of that same interrupt; so there is one before the killing starts.
sub kill_job {
  my ($job, $signal) = @_;
  if ($job->{kind} eq 'exec') { kill 9, $job->{pid}, processes_of($job) }
  else { kill 2, $job->{pid}; kill $signal, processes_of($job) }
}

sub begin_end {
  my ($job, $why) = @_;
  return if $job->{ending};
  $job->{ending} = $why;
  $job->{give_up} = now() + $TERMINATION_GRACE;
  kill_job($job, 2);
}

sub finish {
  my ($job, $status) = @_;
  # An interrupt is enough for the shell to say that it is done, but not for a daemon to go.
  kill 9, processes_of($job) if $job->{ending};
  # A command that was not read to its end would be taken for the next one.
  kill 9, $job->{pid} if $job->{kind} eq 'shell' && $job->{in};
  delete $jobs{$job->{id}};
  for my $stream (qw(out err)) { drain($job->{$stream}, $job->{"${stream}_sink"}) if $job->{$stream} }
  my $killed = $job->{ending} || '';
  send_frame('done', $job->{id}, $status, $killed, $job->{restarted} ? 1 : 0,
    settle($job->{out_sink}), $job->{err_sink} ? settle($job->{err_sink}) : (0, '', ''));
}

# wait(2) status to a shell's exit code.
sub code_of { my ($w) = @_; $w & 127 ? 128 + ($w & 127) : $w >> 8 }

sub reap {
  while ((my $pid = waitpid(-1, $WNOHANG)) > 0) {
    my $status = $?;
    if ($shell && $shell->{pid} == $pid) {
      my ($job) = grep { $_->{kind} eq 'shell' } values %jobs;
      read_control() if $job;
      drain($shell->{out}, $job->{out_sink}) if $job && $jobs{$job->{id}};
      $shell = undef;
      if ($job && $jobs{$job->{id}}) {
        delete $job->{out};
        $job->{restarted} = 1;
        start_shell();
        finish($job, code_of($status));
      }
      next;
    }
    for my $job (values %jobs) {
      finish($job, code_of($status)) if $job->{kind} eq 'exec' && $job->{pid} == $pid;
    }
  }
}

# The shell says that a command has ended. Only a line with the command's own nonce counts.
sub read_control {
  my $size = pack('i', 0);
  ioctl($shell->{ctl}, $FIONREAD, $size) or return;
  my $n = unpack('i', $size) or return;
  sysread($shell->{ctl}, $shell->{ctl_buffer}, $n > 65536 ? 65536 : $n, length $shell->{ctl_buffer});
  while ($shell->{ctl_buffer} =~ s/^([^\n]*)\n//) {
    my $line = $1;
    for my $job (grep { $_->{kind} eq 'shell' } values %jobs) {
      finish($job, $1) if $line =~ /^(\d+) (\w+)$/ && $2 eq $job->{nonce} && ($1 <= 255);
    }
  }
  $shell->{ctl_buffer} = '' if length $shell->{ctl_buffer} > 4096;
}

# --- requests ---------------------------------------------------------------------------------------------------------------

my %handlers = (
  start => sub {
    my ($numbers, $uid, $gid, $workdir, $script, @environment) = @_;
    my %numbers = split ' ', $numbers;
    ($SYS, $AGENT, $WORKDIR, $SHELL_SCRIPT, %ENVIRONMENT) = (\%numbers, [$uid + 0, $gid + 0], $workdir, $script, @environment);
    my $mask = pack('Q', 1 << 16); # SIGCHLD
    syscall($SYS->{rt_sigprocmask}, 0, $mask, 0, 8);
    my $fd = syscall($SYS->{signalfd4}, -1, $mask, 8, 02004000);
    open($signals, '<&=', $fd) or exit 1;
    start_shell();
    send_frame('ready');
  },

  shell => sub {
    my ($id, $nonce, $timeout, $limit, $command) = @_;
    my $fresh = 0;
    if (!$shell) { $fresh = 1; start_shell() or return send_frame('fail', $id, "cannot start a shell: $!") }
    my $job = { id => $id, kind => 'shell', nonce => $nonce, pid => $shell->{pid}, uid => $AGENT->[0], ticks => ticks(),
      deadline => now() + $timeout / 1000, out => $shell->{out}, out_sink => sink($limit), restarted => $fresh };
    @$job{qw(in in_left)} = ($shell->{data}, $command);
    $jobs{$id} = $job;
    my $length = length $command;
    # Should the command ever not be read, what is left in its place ends the shell rather than answering for it.
    # Separate lines, because an error or an interrupt in the command discards the rest of its line but not the next one. The last
    # command's status is put back first, for a command that begins with `echo $?`; under `set -e` that would end the shell.
    write_all($shell->{cmd}, "LC_ALL=C IFS= builtin read -r -N $length -u 9 __ale_command\n"
      . "[[ \$- == *e* ]] || __ale_status \"\$__ale_last\"\n"
      . "builtin eval \"\$__ale_command\" </dev/null >&7 2>&7 7>&- 8>&- 9<&-\n"
      . "__ale_last=\$? __ale_command='builtin exit 126'; builtin printf '%d %s\\n' \"\$__ale_last\" $nonce >&8\n");
  },

  exec => sub {
    my ($id, $user, $cwd, $timeout, $limit, $has_stdin, $stdin, $argc, @rest) = @_;
    my @argv = splice(@rest, 0, $argc);
    my %environment = @rest;
    my ($in_r, $in_w, $out_r, $out_w, $err_r, $err_w);
    pipe($out_r, $out_w); pipe($err_r, $err_w);
    pipe($in_r, $in_w) if $has_stdin;
    my $began = ticks();
    my $pid = spawn_child(sub {
      open($in_r, '<', '/dev/null') if !$has_stdin;
      chown(@$AGENT, $out_w, $err_w) if $user eq 'agent';
      move_fds([$in_r, 0], [$out_w, 1], [$err_w, 2]);
      become($user, $cwd);
      %ENV = %environment;
      exec { $argv[0] } @argv;
      die "$argv[0]: $!\n";
    });
    return send_frame('fail', $id, "cannot start a process: $!") if !defined $pid;
    close $_ for grep { $_ } $out_w, $err_w, $in_r;
    my $job = { id => $id, kind => 'exec', pid => $pid, uid => $user eq 'agent' ? $AGENT->[0] : 0, ticks => $began,
      deadline => now() + $timeout / 1000, out => $out_r, out_sink => sink($limit), err => $err_r, err_sink => sink($limit) };
    if ($has_stdin) {
      unblock($in_w);
      @$job{qw(in in_left)} = ($in_w, $stdin);
    }
    $jobs{$id} = $job;
  },

  cancel => sub {
    my ($id) = @_;
    begin_end($jobs{$id}, 'cancelled') if $jobs{$id};
  },

  # kill(-1) as PID 1 reaches every other process of the namespace at once, so nothing can fork its way out.
  killall => sub {
    my ($id) = @_;
    $_->{ending} ||= 'killed' for values %jobs;
    for (1 .. 2000) {
      kill 9, -1;
      reap_everything();
      last if !process_table();
      select(undef, undef, undef, 0.001);
    }
    send_frame('ok', $id);
  },
);

sub reap_everything {
  while ((my $pid = waitpid(-1, $WNOHANG)) > 0) {
    my $status = $?;
    if ($shell && $shell->{pid} == $pid) {
      my ($job) = grep { $_->{kind} eq 'shell' } values %jobs;
      if ($job) { $job->{restarted} = 1; finish($job, code_of($status)) }
      $shell = undef;
    }
    for my $job (values %jobs) { finish($job, code_of($status)) if $job->{kind} eq 'exec' && $job->{pid} == $pid }
  }
}

sub expire {
  my $now = now();
  for my $job (values %jobs) {
    if (!$job->{ending}) { begin_end($job, 'timeout') if $now >= $job->{deadline}; next }
    if ($now < $job->{give_up}) { kill_job($job, 9); next }
    # It did not let go: the shell goes too, and whatever still multiplies with it.
    kill 9, $job->{pid};
    if ($now >= $job->{give_up} + $TERMINATION_GRACE) { kill 9, -1; $job->{give_up} = $now + 60 }
  }
}

# --- the loop ---------------------------------------------------------------------------------------------------------------

sub next_wait {
  my $soonest;
  for my $job (values %jobs) {
    my $at = $job->{ending} ? now() + 0.01 : $job->{deadline};
    $soonest = $at if !defined $soonest || $at < $soonest;
  }
  return undef if !defined $soonest;
  my $wait = $soonest - now();
  $wait < 0 ? 0 : $wait;
}

sub read_requests {
  my $n = sysread(STDIN, $inbox, 65536, length $inbox);
  exit 0 if defined $n && $n == 0;
  return if !defined $n;
  while (length $inbox >= 4) {
    my $length = unpack('N', $inbox);
    last if length $inbox < 4 + $length;
    my ($type, @fields) = unpack('(N/a*)*', substr($inbox, 4, $length));
    substr($inbox, 0, 4 + $length) = '';
    $handlers{$type}->(@fields);
  }
}

$inbox = '';
while (1) {
  my ($readable, $writable) = ('', '');
  vec($readable, 0, 1) = 1;
  vec($readable, fileno $signals, 1) = 1 if $signals;
  for my $job (values %jobs) {
    for (grep { $_ } @$job{qw(out err)}) { vec($readable, fileno $_, 1) = 1 }
    vec($writable, fileno $job->{in}, 1) = 1 if $job->{in};
  }
  vec($readable, fileno $shell->{ctl}, 1) = 1 if $shell && %jobs;
  my $ready = select(my $r = $readable, my $w = $writable, undef, next_wait());
  if ($ready > 0) {
    for my $job (values %jobs) {
      for my $stream (qw(out err)) {
        my $handle = $job->{$stream};
        next if !$handle || !vec($r, fileno $handle, 1);
        delete $job->{$stream} if !pump($handle, $job->{"${stream}_sink"});
      }
      feed($job) if $job->{in} && vec($w, fileno $job->{in}, 1);
    }
    read_control() if $shell && %jobs && vec($r, fileno $shell->{ctl}, 1);
    if ($signals && vec($r, fileno $signals, 1)) { sysread($signals, my $info, 4096); reap() }
    read_requests() if vec($r, 0, 1);
  }
  expire() if %jobs;
}
