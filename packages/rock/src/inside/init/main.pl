# --- requests, and the loop -------------------------------------------------------------------------------------------------------------

our (%shell_of, $SHELL_SCRIPT, @OWN_BASH); # by pid; what shells begin with; our own bash's arguments

$handlers{start} = sub {
  my ($numbers, $script, @bash) = @_;
  my %numbers = split ' ', $numbers;
  ($SYS, $SHELL_SCRIPT, @OWN_BASH) = (\%numbers, $script, @bash);
  # Not even root in the sandbox may look into PID 1 or change its memory.
  syscall($SYS->{prctl}, 4, 0, 0, 0, 0); # PR_SET_DUMPABLE
  my $mask = pack('Q', 1 << 16); # SIGCHLD
  syscall($SYS->{rt_sigprocmask}, 0, $mask, 0, 8);
  my $fd = syscall($SYS->{signalfd4}, -1, $mask, 8, 02004000);
  open($signals, '<&=', $fd) or exit 1;
  on_read($signals, sub { sysread($signals, my $info, 4096); reap() });
  send_frame('ready');
};

$handlers{ping} = sub { send_frame('ok', $_[0]) };

sub reap {
  while ((my $pid = waitpid(-1, $WNOHANG)) > 0) {
    my $status = $?;
    if (my $shell = delete $shell_of{$pid}) { shell_exited($shell, $status) }
    elsif (my $job = delete $program_of{$pid}) { program_exited($job, $status) }
  }
}

sub expire {
  my $now = now();
  for my $job (grep { !defined $_->{status} } values %jobs) {
    if ($job->{ending}) { insist($job, $now) }
    elsif ($now >= $job->{deadline}) { begin_end($job, 'timeout') }
  }
}

# Seconds until something has to be done; undef where nothing is to come.
sub next_wait {
  my $soonest;
  for my $job (values %jobs) {
    next if defined $job->{status};
    my $at = !$job->{ending} ? $job->{deadline} : now() + 0.01;
    $soonest = $at if !defined $soonest || $at < $soonest;
  }
  return undef if !defined $soonest;
  my $wait = $soonest - now();
  $wait < 0 ? 0 : $wait;
}

# The starter may have read further than to here.
my $inbox = $INBOX // '';

sub read_requests {
  # Room for all of a frame at once: grown bit by bit, a large one would be copied hundreds of times.
  my $missing = length $inbox >= 4 ? 4 + unpack('N', $inbox) - length $inbox : 0;
  my $n = sysread(STDIN, $inbox, $missing > 65536 ? $missing : 65536, length $inbox);
  exit 0 if defined $n && $n == 0;
  serve() if defined $n;
}

sub serve {
  while (length $inbox >= 4) {
    my $length = unpack('N', $inbox);
    last if length $inbox < 4 + $length;
    my ($type, @fields) = eval { unpack('(N/a*)*', substr($inbox, 4, $length)) };
    substr($inbox, 0, 4 + $length) = '';
    # A request that cannot be served must not end everything that runs.
    eval { handler($type)->(@fields); 1 } or print STDERR "request failed: $@";
  }
}

if (@START) { $handlers{start}->(@START); serve() }
vec($READS, 0, 1) = 1;
while (1) {
  my $ready = select(my $r = $READS, my $w = $WRITES, undef, %jobs ? next_wait() : undef);
  if ($ready > 0) {
    for my $fd (keys %on_write) { my $do = $on_write{$fd}; $do->() if $do && vec($w, $fd, 1) }
    for my $fd (keys %on_read) { my $do = $on_read{$fd}; $do->() if $do && vec($r, $fd, 1) }
    read_requests() if vec($r, 0, 1);
  }
  expire() if %jobs;
}
