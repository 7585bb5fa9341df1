# --- shells: each runs one command at a time, and what it keeps between them is what a session is ---------------------------------------

my (%shells, %bash_version); # by the session's id; by path

# With `check` the shell starts at once and its failure is the answer; else with its first command.
$handlers{session} = sub {
  my ($id, $name, $identity, $cwd, $check, @environment) = @_;
  my $shell = $shells{$name} = { name => $name, who => identity($identity), cwd => $cwd, env => [@environment] };
  return send_frame('ok', $id) if !$check;
  pipe(my $complaints, my $complain);
  if (!$complain || !start_shell($shell, $complain)) { delete $shells{$name}; return send_frame('fail', $id, "cannot start a shell: $!") }
  close $complain;
  on_read($complaints, sub {
    sysread($complaints, my $why, 4096);
    shut($complaints);
    chomp $why;
    delete $shells{$name} if length $why;
    send_frame(length $why ? 'fail' : 'ok', $id, $why);
  });
};

# The image's own bash where it has a usable one (4.4 or later), else ours: program and arguments.
sub bash {
  for my $path (qw(/bin/bash /usr/bin/bash /usr/local/bin/bash)) {
    return ($path, 'bash') if -x $path && ($bash_version{$path} //= version_in($path)) >= 404;
  }
  @OWN_BASH ? ($OWN_BASH[0], @OWN_BASH) : ('/bin/bash', 'bash');
}

# The version that is written in a bash, as 100 * major + minor: to run it, only to ask, would cost more. 0 where there is none.
sub version_in {
  my ($path) = @_;
  sysopen(my $file, $path, 04000) or return 0; # O_NONBLOCK
  my $seen = '';
  for (1 .. 64) {
    last if !-f $file || !sysread($file, $seen, 131072, length $seen);
    return 100 * $1 + $2 if $seen =~ /\@\(#\)Bash version (\d+)\.(\d+)\./;
    $seen = substr($seen, -64);
  }
  0;
}

# An interactive bash asks its terminal for its settings whenever a command dies of a signal, and complains into the command's
# output where it has none. So it gets one, which carries nothing: nobody reads or writes it, and commands do not see it.
sub start_shell {
  my ($shell, $complain) = @_;
  my ($master, $slave) = terminal($shell->{who});
  my ($cmd_r, $cmd_w, $data_r, $data_w, $ctl_r, $ctl_w, $out_r, $out_w) = pipes(4) or return 0;
  my ($bash, @argv) = bash();
  # A shell that lost its directory begins in `/`, rather than not at all.
  my $cwd = $complain || -d $shell->{cwd} ? $shell->{cwd} : '/';
  my $pid = spawn_child($complain || $out_w, sub {
    open(my $null, '+<', '/dev/null');
    chown(@{$shell->{who}}[0, 1], $out_w); # or opening /dev/stderr is refused
    syscall($SYS->{setsid});
    move_fds([$cmd_r, 0], [$null, 1], [$slave || $null, 2], [$out_w, 7], [$ctl_w, 8], [$data_r, 9]);
    become($shell->{who}, $cwd);
    %ENV = @{$shell->{env}};
    exec { $bash } @argv, '--norc', '--noprofile', '--noediting', '-i';
    die "cannot start bash: $!\n";
  });
  return 0 if !defined $pid;
  close $_ for $cmd_r, $data_r, $ctl_w, $out_w;
  close $slave if $slave;
  @$shell{qw(pid cmd data ctl out buffer terminal)} = ($pid, $cmd_w, $data_w, $ctl_r, $out_r, '', $master);
  $shell_of{$pid} = $shell;
  # Before it has read a word: whatever it does for anybody, the driver knows whose shell it is.
  send_frame('shell', $pid, start_of($pid));
  unblock($ctl_r);
  on_read($ctl_r, sub { read_control($shell) });
  write_all($cmd_w, $SHELL_SCRIPT);
  1;
}

# In clock ticks since boot, as everybody reads it.
sub start_of {
  my ($pid) = @_;
  open(my $stat, '<', "/proc/$pid/stat") or return '';
  my $line = <$stat>;
  (split ' ', substr($line, rindex($line, ')') + 2))[19];
}

# `credit`: of output that is passed on while the command runs, else empty.
$handlers{shell} = sub {
  my ($id, $name, $nonce, $timeout, $limit, $credit, $command) = @_;
  return if flowing($id);
  my $shell = $shells{$name} or return send_frame('fail', $id, 'the session is closed');
  my $restarted = delete $shell->{lost};
  if (!$shell->{pid}) { start_shell($shell) or return send_frame('fail', $id, "cannot start a shell: $!") }
  my $job = $jobs{$id} = $shell->{job} = { id => $id, shell => $shell, nonce => $nonce, pid => $shell->{pid}, uid => $shell->{who}[0],
    deadline => now() + $timeout / 1000, restarted => $restarted };
  @$job{qw(ticks last_pid)} = moment();
  $job->{out} = open_stream({ id => $id, name => 'out', from => $shell->{out}, sink => sink($limit), credit => length $credit ? $credit : undef });
  $job->{in} = open_feed({ id => $id, to => $shell->{data}, queue => '' });
  # Should the command ever not be read, what is left in its place ends the shell rather than answering for it.
  # Separate lines, because an error or an interrupt in the command discards the rest of its line but not the next one. Before its line
  # has begun an interrupt would tear it. The last command's status is put back first, for a command that begins with `echo $?`; under
  # `set -e` that would end the shell.
  my $length = length $command;
  write_all($shell->{cmd}, "LC_ALL=C IFS= builtin read -r -N $length -u 9 __ale_command || builtin exit 126\n"
    . "__ale_in=1 __ale_cut=; builtin printf 'begun %s\\n' $nonce >&8; [[ \$- == *e* ]] || __ale_status \"\$__ale_last\"; builtin eval \"\$__ale_command\" </dev/null >&7 2>&7 7>&- 8>&- 9<&-\n"
    . last_line('$?', $nonce));
  push_feed($job->{in}, $command, 1);
};

# The line with which the shell says that the command with this nonce has ended, and how. `status`: where it was not cut short.
sub last_line {
  my ($status, $nonce) = @_;
  "__ale_last=\${__ale_cut:-$status} __ale_in= __ale_cut= __ale_command='builtin exit 126'; builtin printf '%d %s\\n' \"\$__ale_last\" $nonce >&8\n";
}

# The shell writes down what it is (session.sh says how), to us and not into the output of what it has in the background.
$handlers{capture} = sub {
  my ($id, $name, $nonce, $timeout, $limit) = @_;
  return if flowing($id);
  my $shell = $shells{$name};
  return send_frame('done', $id, 0, '', 0, 0, 0, '', '', 0, '', '') if !$shell || !$shell->{pid} || $shell->{job};
  $jobs{$id} = $shell->{job} = { id => $id, shell => $shell, nonce => $nonce, pid => $shell->{pid}, uid => $shell->{who}[0],
    deadline => now() + $timeout / 1000, state => sink(2 * $limit) };
  write_all($shell->{cmd}, "builtin printf 'state %s\\n' $nonce >&8; __ale_state >&8; builtin printf '\\nbegun %s\\n' $nonce >&8\n"
    . last_line('$__ale_last', $nonce));
};

# The shell says that a command has begun or ended. Only a line with the command's own nonce counts.
sub read_control {
  my ($shell) = @_;
  my $n = sysread($shell->{ctl}, $shell->{buffer}, 65536, length $shell->{buffer});
  no_read($shell->{ctl}) if defined $n && !$n;
  while ($shell->{buffer} =~ s/^([^\n]*)\n//) {
    my ($line, $job) = ($1, $shell->{job});
    my ($word, $nonce) = split ' ', $line;
    if ($job && $job->{in_state} && $line ne "begun $job->{nonce}") { take($job->{state}, "$line\n"); next }
    next if !$job || !defined $nonce || $nonce ne $job->{nonce};
    if ($word eq 'state') { $job->{in_state} = $job->{state} }
    elsif ($word eq 'begun') { delete $job->{in_state}; $job->{begun} = 1; interrupt_shell($job) if $job->{ending} }
    elsif ($word =~ /^\d+$/ && $word <= 255) { finish_command($job, $word) }
  }
  return if length $shell->{buffer} <= 4096;
  take($shell->{job}{state}, $shell->{buffer}) if $shell->{job} && $shell->{job}{in_state};
  $shell->{buffer} = '';
}

# An interrupt, and what the shell's trap makes of it, may each hit the shell when it is about to say that the command has ended. So it is
# asked to say it again. A shell that reads nothing must not keep us from writing: the rest of many interrupts only reach its children.
sub interrupt_shell {
  my ($job) = @_;
  return if !$job->{begun};
  return kill(2, processes_of($job)) if $job->{asked_again}++ >= 50;
  interrupt_job($job);
  write_all($job->{shell}{cmd}, last_line('$__ale_last', $job->{nonce}) x 2);
}

sub finish_command {
  my ($job, $status) = @_;
  my $shell = $job->{shell};
  my $ending = $job->{ending} || '';
  # What an interrupt leaves in the background may stay; what runs out of time has to go, its daemons too.
  if ($ending && ($ending ne 'interrupted' || $job->{forced})) { end_for_good($job) }
  elsif ($ending) { for (1 .. 50) { last if !interrupt_deaf($job); select(undef, undef, undef, 0.002) } }
  # A command that was not read to its end would be taken for the next one.
  kill 9, $job->{pid} if $job->{in} && !$job->{in}{over} && $shell->{pid};
  end_feed($job->{in}) if $job->{in};
  drain_stream($job->{out}) if $job->{out};
  delete $jobs{$job->{id}};
  delete $shell->{job};
  send_frame('done', $job->{id}, $status, $ending, $job->{restarted} ? 1 : 0, $job->{forced} ? 1 : 0, settle($job->{state} || $job->{out}{sink}), 0, '', '');
  %$job = (status => 0);
}

sub shell_exited {
  my ($shell, $status) = @_;
  read_control($shell);
  my $job = $shell->{job};
  delete $shell->{pid};
  # Whoever did not hear of it from a result hears it from the next one.
  $shell->{lost} = 1 if !$job || ($job->{ending} // '') eq 'killed';
  if ($job) { $job->{restarted} = 1; finish_command($job, code_of($status)) }
  shut(@$shell{qw(cmd data ctl out terminal)});
  delete @$shell{qw(cmd data ctl out terminal)};
  return if !$shell->{closing};
  delete $shells{$shell->{name}};
  send_frame('ok', $shell->{closing});
}

$handlers{interrupt} = sub {
  my ($id, $name) = @_;
  my $job = $shells{$name} && $shells{$name}{job};
  if ($job && $job->{ending}) { interrupt_shell($job) }
  elsif ($job) { begin_end($job, 'interrupted') }
  send_frame('ok', $id);
};

# As when a terminal is closed: the command ends, what is in the background is hung up on.
$handlers{'close-session'} = sub {
  my ($id, $name) = @_;
  my $shell = $shells{$name};
  if (!$shell || !$shell->{pid}) { delete $shells{$name}; return send_frame('ok', $id) }
  $shell->{closing} = $id;
  my $job = $shell->{job};
  if ($job) { mark_ending($job, 'cancelled'); kill 9, processes_of($job) }
  kill 1, grep { $_ != $shell->{pid} } map { $_->{pid} } grep { $_->{sid} == $shell->{pid} } process_table();
  kill 9, $shell->{pid};
};
