# --- programs: run to their end and told about as a whole (`collect`), or passed on while they run (`stream`) ---------------------------

our %program_of; # by pid, those that have not been waited for

# `input`: `none`, `given` (all of stdin is here) or `open` (more follows). `size`: "rows cols" of a terminal, or nothing.
$handlers{run} = sub {
  my ($id, $mode, $identity, $cwd, $timeout, $limit, $input, $stdin, $size, $argc, @rest) = @_;
  return if flowing($id);
  my @argv = splice(@rest, 0, $argc);
  my $job = { id => $id, mode => $mode, who => identity($identity), deadline => now() + $timeout / 1000, size => $size, tty => $size ne '' };
  run_job($job, $cwd, $limit, $input, $stdin, sub {
    %ENV = @rest;
    exec { $argv[0] } @argv;
    die "$argv[0]: $!\n";
  });
};

# `body`: what the child does in its place, with its streams.
sub run_job {
  my ($job, $cwd, $limit, $input, $stdin, $body) = @_;
  my $id = $job->{id};
  $job->{uid} = $job->{who}[0];
  @$job{qw(ticks last_pid)} = moment();
  my $ends = ($job->{tty} ? on_terminal($job, $job->{size}) : on_pipes($job, $input))
    or return send_frame('fail', $id, "cannot start a process: $!");
  my ($complaints, $complain) = $job->{mode} eq 'stream' ? pipes(1) : ();
  $job->{pid} = spawn_child($complain || $ends->{err}, sub { begin_program($job, $ends, $cwd); $body->($complain) });
  return send_frame('fail', $id, "cannot start a process: $!") if !defined $job->{pid};
  close $_ for grep { $_ } @$ends{qw(in out err)};
  $jobs{$id} = $program_of{$job->{pid}} = $job;
  open_streams($job, $limit, $input, $stdin);
  return if !$complain;
  close $complain;
  $job->{complaints} = $complaints;
  on_read($complaints, sub { announce($job) });
}

# The child's ends of its streams; ours stay in the job.
sub on_pipes {
  my ($job, $input) = @_;
  my ($out_r, $out_w, $err_r, $err_w, $in_r, $in_w) = pipes($input eq 'none' ? 2 : 3) or return;
  @$job{qw(from_out from_err to_in)} = ($out_r, $err_r, $in_w);
  { in => $in_r, out => $out_w, err => $err_w };
}

# In the child, up to the program itself.
sub begin_program {
  my ($job, $ends, $cwd) = @_;
  my ($in, $out, $err) = @$ends{qw(in out err)};
  open($in, '<', '/dev/null') if !$in;
  chown(@{$job->{who}}[0, 1], $out, $err) if !$job->{tty}; # or opening /dev/stderr is refused
  syscall($SYS->{setsid});
  move_fds([$in, 0], [$out, 1], [$err, 2]);
  ioctl(STDIN, 0x540E, 0) if $job->{tty}; # TIOCSCTTY
  become($job->{who}, $cwd);
}

sub open_streams {
  my ($job, $limit, $input, $stdin) = @_;
  my $collect = $job->{mode} eq 'collect';
  for my $name (qw(out err)) {
    my $from = delete $job->{"from_$name"} or next;
    my $stream = $job->{$name} = { id => $job->{id}, name => $name, from => $from, terminal => $job->{tty}, ended => sub { stream_ended($job, $_[0]) } };
    if ($collect) { $stream->{sink} = sink($limit); open_stream($stream) }
    else { $stream->{credit} = $limit; unblock($from) }
  }
  my $to = delete $job->{to_in} or return;
  $job->{in} = open_feed({ id => $job->{id}, to => $to, acks => $input eq 'open', queue => '', done => sub { shut($_[0]{to}) if !$job->{tty} } });
  push_feed($job->{in}, $stdin, $input eq 'given' && !$job->{tty});
}

sub forget_program {
  my ($job) = @_;
  delete $jobs{$job->{id}};
  delete $program_of{$job->{pid}};
  end_feed($job->{in}) if $job->{in};
  shut(map { $_->{from} } grep { $_ } @$job{qw(out err)});
  %$job = (status => 0);
}

sub program_exited {
  my ($job, $status) = @_;
  # An interrupt is enough for a program to end, but not for its daemons to go.
  end_for_good($job) if $job->{ending};
  $job->{status} = $status;
  announce($job) if $job->{complaints};
  end_feed($job->{in}) if $job->{in};
  for my $name (qw(out err)) { read_the_rest($job->{$name}) if $job->{$name} }
  finish_program($job);
}

sub stream_ended {
  my ($job, $stream) = @_;
  send_frame('end', $job->{id}, $stream->{name}) if $job->{mode} eq 'stream';
  shut($stream->{from}) if !$job->{tty};
  finish_program($job);
}

# The last frame, once it has ended and all of its output is on its way.
sub finish_program {
  my ($job) = @_;
  return if !defined $job->{status} || !$job->{id} || grep { $_ && !$_->{over} } @$job{qw(out err)};
  my @killed = $job->{ending} || '';
  if ($job->{mode} eq 'stream') { send_frame('exit', $job->{id}, $job->{status}, @killed) }
  else { send_frame('done', $job->{id}, code_of($job->{status}), @killed, 0, 0, map { settle($_->{sink}) } @$job{qw(out err)}) }
  forget_program($job);
}
