# Starts container runtimes for a driver, one per request. It exists because of what starting a process costs a large one: the
# page tables of a trainer with a heap of 300 MB take 13 ms to copy, those of this program 0.3 ms, and nobody's event loop waits.
# Arguments: system call numbers, where the v2 hierarchy of a hybrid host is mounted (or nothing), the runtime, the driver's directory,
# where that directory is to be seen, whether root is an ordinary user of the host. Each runtime gets as stdin and stdout a connection to `control.sock` in that directory, on which
# it first says whose it is, and where it can wait for its configuration, a pipe: it starts while that is still being made. Requests on fd 0, replies on fd 1, in the frames of init.pl. When the driver goes, fd 0 ends, and so does this.
$0 = 'ale-launcher';
$SIG{PIPE} = 'IGNORE';
binmode STDIN; binmode STDOUT;
my ($numbers, $unified, $runtime, $space, $place, $rootless) = @ARGV;
my %number = split ' ', $numbers;
my ($NEWNS, $NEWUSER, $MS_REC, $MS_SLAVE, $MS_MOVE, $MNT_DETACH, $WNOHANG) = (0x20000, 0x10000000, 0x4000, 0x80000, 0x2000, 2, 1);

sub frame { my $p = pack('(N/a*)*', @_); pack('N/a*', $p) }
sub reply { my $data = frame(@_); syswrite(STDOUT, $data) }
sub refuse { reply('refused', "$_[0]: $!"); exit 1 }

# What is mounted below the driver's directory is seen here all the same, and its end as well: that directory is shared. It is moved to
# where no directory on the way is closed to the sandboxes' users, because a runtime has only their rights when it enters a root.
{
  my ($none, $root) = ('none', '/');
  syscall($number{unshare}, $NEWNS) == 0 or refuse('unshare');
  syscall($number{mount}, $none, $root, 0, $MS_REC | $MS_SLAVE, 0) == 0 or refuse('mount');
  syscall($number{mount}, $space, $place, 0, $MS_MOVE, 0) == 0 or refuse("mount $place");
  chdir $place or refuse($place);
}

# crun refuses a host that keeps some controllers on v1 and others on v2. It works where it does not see the v2 hierarchy.
# What was mounted by a more privileged namespace cannot be unmounted, but be covered together with what is beside it.
if ($unified ne '') {
  my ($tmpfs, $none, $all) = ('tmpfs', 'mode=755,size=4k', $unified =~ s{/[^/]+$}{}r);
  syscall($number{umount2}, $unified, $MNT_DETACH) == 0 or syscall($number{mount}, $tmpfs, $all, $tmpfs, 0, $none) == 0 or refuse("umount $unified");
}

# A runtime copies itself into sealed memory and starts again, so that no container can overwrite it on the host; unless it finds itself
# sealed already. One sealed copy serves all.
my $sealed;
sub sealed_copy {
  my ($name, $MFD_CLOEXEC_ALLOW_SEALING, $F_ADD_SEALS, $ALL_SEALS) = ('runtime', 3, 1033, 15);
  open(my $source, '<:raw', $runtime) or return $runtime;
  my $fd = syscall($number{memfd_create}, $name, $MFD_CLOEXEC_ALLOW_SEALING);
  return $runtime if $fd < 0 || !open($sealed, '>&=', $fd);
  binmode $sealed;
  while (sysread($source, my $chunk, 1 << 20)) { syswrite($sealed, $chunk) == length $chunk or return $runtime }
  syscall($number{fcntl}, $fd, $F_ADD_SEALS, $ALL_SEALS) == 0 or return $runtime;
  chmod 0755, $sealed;
  "/proc/self/fd/$fd";
}
my $program = sealed_copy();

my $mask = pack('Q', 1 << 16); # SIGCHLD
syscall($number{rt_sigprocmask}, 0, $mask, 0, 8);
my $signal_fd = syscall($number{signalfd4}, -1, $mask, 8, 02004000);
open(my $signals, '<&=', $signal_fd) or refuse('signalfd');

# A runtime ends when its container has begun, and leaves PID 1 to us: a runtime that waits beside each container would take more memory
# than the container.
my $SUBREAPER = 36;
syscall($number{prctl}, $SUBREAPER, 1, 0, 0, 0) == 0 or refuse('prctl');

my (%ids, %pids, %pid_files, %early, %held, %configurations, %groups, %beginning);

# What the kernel counts for a user it counts in his namespace and in those above it. So that the processes of one sandbox are counted
# apart from all others, its runtime begins in a namespace of its own, with the same users. What parent and child each have to do for that.
sub apart {
  my ($ready_r, $ready_w, $done_r, $done_w);
  pipe($ready_r, $ready_w) && pipe($done_r, $done_w) or return;
  my $parent = sub {
    my ($pid) = @_;
    close $_ for $ready_w, $done_r;
    sysread($ready_r, my $said, 1) && write_maps($pid, map { everybody($_) } 'uid', 'gid');
    close $done_w;
  };
  my $child = sub {
    close $_ for $ready_r, $done_w;
    syscall($number{unshare}, $NEWUSER) == 0 or die "unshare: $!\n";
    syswrite($ready_w, '1');
    sysread($done_r, my $end, 1);
  };
  ($parent, $child);
}

# Each as himself. A range may not span two of ours.
sub everybody {
  my ($kind) = @_;
  open(my $in, '<', "/proc/self/${kind}_map") or return '';
  join '', map { my ($inside, undef, $size) = split; "$inside $inside $size\n" } <$in>;
}

# Undef, or what went wrong.
sub write_maps {
  my ($pid, %map);
  ($pid, @map{qw(uid gid)}) = @_;
  for my $kind (qw(uid gid)) {
    my $file = "/proc/$pid/${kind}_map";
    open(my $out, '>', $file) or return "$file: $!";
    defined syswrite($out, $map{$kind}) or return "$file: $!";
  }
  undef;
}

sub launch {
  my ($id, $log, $pid_file, $configuration_fd, $groups, @argv) = @_;
  my ($apart, $go_apart) = $rootless ? apart() : ();
  my ($configuration, $configure);
  pipe($configuration, $configure) or return reply('exit', $id, 127) if $configuration_fd ne '';
  my $pid = fork;
  return reply('exit', $id, 127) if !defined $pid;
  if ($pid) {
    $ids{$pid} = $id; $pids{$id} = $pid; $pid_files{$pid} = $pid_file;
    $configurations{$id} = $configure if $configure;
    $groups{$id} = $1 if $groups =~ /^(.+)/;
    $apart && $apart->($pid);
    return;
  }
  open(STDERR, '>', $log);
  syscall($number{setsid});
  my $nothing = pack('Q', 0);
  syscall($number{rt_sigprocmask}, 2, $nothing, 0, 8);
  $SIG{PIPE} = 'DEFAULT';
  enter_groups($groups);
  my $control;
  socket($control, 1, 1, 0) && connect($control, pack('S a*', 1, "control.sock\0")) or die "control.sock: $!\n";
  syswrite($control, "$id\n");
  syscall($number{dup3}, fileno $control, $_, 0) for 0, 1;
  syscall($number{dup3}, fileno $configuration, $configuration_fd + 0, 0) if $configuration;
  $go_apart->() if $go_apart;
  chdir '/';
  { exec { $program } $runtime, @argv }
  print STDERR "cannot start $runtime: $!\n";
  syscall($number{exit_group}, 127);
}

# Lines: a directory to make, or a file and what is to be written to it.
sub enter_groups {
  for my $line (split /\n/, $_[0]) {
    my ($path, $value) = split / /, $line, 2;
    if (!defined $value) { mkdir $path or die "$path: $!\n"; next }
    sysopen(my $out, $path, 1) or die "$path: $!\n";
    defined syswrite($out, $value) or die "$path: $!\n";
  }
}

# A runtime that is not there any more does not read it.
sub configure {
  my ($id, $text) = @_;
  my $to = delete $configurations{$id} or return;
  while (length $text) { substr($text, 0, syswrite($to, $text) // return) = '' }
}

# A process that does nothing but be in a user namespace of its own, until its end of the pipe is let go.
sub user_namespace {
  my ($id, $map) = @_;
  my ($ready_r, $ready_w, $hold_r, $hold_w);
  pipe($ready_r, $ready_w) && pipe($hold_r, $hold_w) or return reply('no-userns', $id, "pipe: $!");
  my $pid = fork;
  return reply('no-userns', $id, "fork: $!") if !defined $pid;
  if (!$pid) {
    close $_ for $ready_r, $hold_w, values %held, values %configurations;
    syswrite($ready_w, syscall($number{unshare}, $NEWUSER) == 0 ? 'ok' : "unshare: $!");
    close $ready_w;
    sysread($hold_r, my $end, 1);
    syscall($number{exit_group}, 0);
  }
  close $_ for $ready_w, $hold_r;
  $held{$id} = $hold_w;
  sysread($ready_r, my $said, 256);
  if ($said eq 'ok') { $said = write_maps($pid, $map, $map) // 'ok' }
  return reply('userns', $id, $pid) if $said eq 'ok';
  delete $held{$id};
  reply('no-userns', $id, $said);
}

# Somebody has ended: a runtime that did its work, after which PID 1 stands for the sandbox; PID 1; or whoever else was left to us. PID 1 may
# be told of before its runtime.
sub ended {
  my ($pid, $status) = @_;
  my $id = delete $ids{$pid};
  if (!defined $id) {
    %early = () if keys %early > 1000;
    $early{$pid} = $status;
    return;
  }
  delete $pids{$id};
  delete $configurations{$id};
  my $group = delete $groups{$id};
  my $file = delete $pid_files{$pid};
  my $init = defined $file && $status == 0 ? number_in($file) : undef;
  return reply('exit', $id, $status & 127 ? 128 + ($status & 127) : $status >> 8) if !defined $init;
  $ids{$init} = $id;
  $pids{$id} = $init;
  $beginning{$id} = $group;
  ended($init, delete $early{$init}) if defined $early{$init};
}

# A runtime's own helpers may outlive it a little, in the container's groups. They are our children.
sub tell_begun {
  for my $id (keys %beginning) {
    my $group = $beginning{$id};
    next if defined $group && processes_in($group) > 1;
    delete $beginning{$id};
    reply('begun', $id);
  }
}

sub processes_in {
  my ($group) = @_;
  open(my $in, '<', "$group/cgroup.procs") or return 0;
  my @pids = <$in>;
  @pids;
}

sub number_in {
  my ($file) = @_;
  open(my $in, '<', $file) or return undef;
  my $line = <$in>;
  defined $line && $line =~ /^(\d+)/ ? $1 : undef;
}

# Before it is done a runtime's child is PID 1 of its container.
sub children_of {
  my ($parent) = @_;
  grep { open(my $stat, '<', "/proc/$_/stat") && <$stat> =~ /\) \S (\d+) / && $1 == $parent } map { m{/(\d+)/} } glob '/proc/[0-9]*/';
}

my %handlers = (
  userns => \&user_namespace,
  release => sub { my ($id) = @_; delete $held{$id} },
  launch => \&launch,
  configure => \&configure,
  kill => sub { my ($id) = @_; kill 9, children_of($pids{$id}), $pids{$id} if $pids{$id} },
);

reply('ready');
my $inbox = '';
while (1) {
  my $readable = '';
  vec($readable, 0, 1) = vec($readable, fileno $signals, 1) = 1;
  next if select($readable, undef, undef, undef) < 0;
  if (vec($readable, fileno $signals, 1)) {
    sysread($signals, my $info, 4096);
    while ((my $pid = waitpid(-1, $WNOHANG)) > 0) { ended($pid, $?) }
    tell_begun();
  }
  if (vec($readable, 0, 1)) {
    my $n = sysread(STDIN, $inbox, 65536, length $inbox);
    exit 0 if defined $n && $n == 0;
    while (length $inbox >= 4 && length $inbox >= 4 + (my $length = unpack('N', $inbox))) {
      my ($type, @fields) = unpack('(N/a*)*', substr($inbox, 4, $length));
      substr($inbox, 0, 4 + $length) = '';
      $handlers{$type}->(@fields);
    }
  }
}
