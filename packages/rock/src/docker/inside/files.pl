# --- files: PID 1 works on the sandbox's files, for a driver that cannot reach them from outside ---------------------------------------
#
# Each request is served by a child of PID 1 that runs no other program: nothing that the sandbox could replace has a part in it, and
# like PID 1 it cannot be looked into. It takes chunks on stdin (a 32-bit length and bytes; an empty one is the end) and answers with
# frames on stdout, the last one `ok` or `error`. Paths mean what they mean to a process of the sandbox; with `strict` no link is followed.

my %N; # numbers of calls and flags of this machine
my ($reads, %was_read, $lost_reads); # events of files whose readers matter

$handlers{'files-begin'} = sub {
  my ($id, %numbers) = @_;
  %N = map { $_ => $numbers{$_} + 0 } keys %numbers; # as numbers: of two strings `|` would make a third
  my $fd = syscall($N{inotify_init1}, 02004000);
  if ($fd >= 0) { open($reads, '<&=', $fd); on_read($reads, \&note_reads) }
  send_frame('ok', $id);
};

# While the driver itself reads, nothing counts.
$handlers{'reads-pause'} = sub { if ($reads) { note_reads(); no_read($reads) } };
$handlers{'reads-resume'} = sub { if ($reads) { inotify_events($reads); on_read($reads, \&note_reads) } };

sub note_reads {
  for (inotify_events($reads)) {
    my ($watch, $mask) = @$_;
    $was_read{$watch} = 1 if $mask & 0x11; # IN_ACCESS, IN_CLOSE_NOWRITE
    $lost_reads = 1 if $mask & 0x4000;
  }
}

# What is there now: watch, mask, name.
sub inotify_events {
  my ($queue) = @_;
  my @events;
  while (sysread($queue, my $bytes, 65536)) {
    while (length $bytes >= 16) {
      my ($watch, $mask, undef, $length) = unpack('l L L L', $bytes);
      my $name = substr($bytes, 16, $length);
      $name =~ s/\0+$//;
      push @events, [$watch, $mask, $name];
      substr($bytes, 0, 16 + $length) = '';
    }
  }
  @events;
}

$handlers{files} = sub {
  my ($id, $timeout, $credit, $operation, @arguments) = @_;
  my $job = { id => $id, mode => 'stream', who => [0, 0, 0], deadline => now() + $timeout / 1000, tty => '' };
  run_job($job, '/', $credit, 'open', '', sub {
    close_all(); # and with it the pipe whose end says that it has begun
    serve_files($operation, @arguments);
    syscall($SYS->{exit_group}, 0);
  });
};

# All but its streams and the watches.
sub close_all {
  my $kept = $reads ? fileno $reads : 2;
  syscall($N{close_range}, 3, $kept - 1, 0) if $kept > 3;
  syscall($N{close_range}, $kept + 1, 0xffffffff, 0);
}

# --- in the child: talking ------------------------------------------------------------------------------------------------------------

my ($chunks, %operations) = ('');

sub answer { my $payload = pack('(N/a*)*', @_); my $data = pack('N/a*', $payload); write_all(*STDOUT, $data) or syscall($SYS->{exit_group}, 1) }

sub exactly {
  my ($size) = @_;
  while (length $chunks < $size) {
    my $n = sysread(STDIN, $chunks, 65536, length $chunks);
    next if !defined $n && $! == $EINTR;
    fault('unsafe-path', '', 'the input ended early') if !$n;
  }
  substr($chunks, 0, $size, '');
}
sub next_chunk { my $size = unpack('N', exactly(4)); $size ? exactly($size) : '' }

sub serve_files {
  my ($operation, @arguments) = @_;
  my @said = eval { $operations{$operation}->(@arguments) };
  my $why = $@;
  # What was read here is forgotten before the driver hears of the end, for then readers count again. A file that was still open would be
  # closed, and so read, after that.
  close_all();
  inotify_events($reads) if $reads;
  if (ref $why) { answer('error', @$why) }
  elsif ($why) { answer('error', 'unsafe-path', '', $why) }
  else { answer('ok', @said) }
}

my %TYPES = (2 => 'not-found', 6 => 'not-a-file', 17 => 'exists', 20 => 'not-a-directory', 21 => 'not-a-file', 28 => 'disk-full',
  39 => 'not-empty', 40 => 'unsafe-path', 122 => 'disk-full');
sub fault { die [@_] }
sub failed { my ($path, $strict) = @_; my $type = $TYPES{$! + 0} || 'unsafe-path'; fault($strict && grep({ $! == $_ } 6, 20, 21) ? 'unsafe-path' : $type, $path, "$!") }

# --- in the child: finding ------------------------------------------------------------------------------------------------------------

my ($CREATE, $EXCLUSIVE, $NONBLOCK, $NOATIME, $PATH_ONLY, $CLOSE_ON_EXEC) = (0100, 0200, 04000, 01000000, 010000000, 02000000);
my ($NO_MAGIC_LINKS, $BENEATH) = (2, 8); # RESOLVE_*

sub names_of { my ($path) = @_; my @names = grep { $_ ne '' && $_ ne '.' } split '/', $path; fault('unsafe-path', $path) if grep { $_ eq '..' } @names; @names }
sub inside { my ($directory, $name) = @_; '/proc/self/fd/' . fileno($directory) . "/$name" }

sub open_directory {
  my ($place, $flags) = @_;
  sysopen(my $directory, $place, $N{O_DIRECTORY} | $flags) or return;
  $directory;
}

# From `base` down, no link followed. Returns what names the last component, which may not exist. `owner`: of directories that are made.
my @held;
sub strict_place {
  my ($base, $path, $owner) = @_;
  my @names = names_of($path);
  my $last = pop @names;
  my $directory = open_directory($base, 0) or failed($base);
  for my $name (@names) {
    my $place = inside($directory, $name);
    my $next = open_directory($place, $N{O_NOFOLLOW});
    if (!$next && $! == 2 && $owner) {
      mkdir $place, 0755 or $! == 17 or failed($path, 1);
      $next = open_directory($place, $N{O_NOFOLLOW}) or failed($path, 1);
      chown @$owner, $next;
    }
    $directory = $next || failed($path, 1);
  }
  @held = ($directory);
  inside($directory, $last // '.');
}

# A descriptor, or -1. Links are followed, but never the kernel's own that lead anywhere.
sub open_way {
  my ($base, $path, $flags, $resolve) = @_;
  my $how = pack('Q3', $flags | $CLOSE_ON_EXEC, 0, $NO_MAGIC_LINKS | ($resolve || 0));
  syscall($N{openat2}, $base + 0, "$path", $how, 24);
}
sub let_go { syscall($N{close}, $_[0] + 0) }
sub held_place { "/proc/self/fd/$_[0]" }

# The kernel's own file systems are no files of the sandbox, whatever leads there.
sub refuse_kernels {
  my ($fd, $path) = @_;
  fault('unsafe-path', $path) if (readlink(held_place($fd)) // '') =~ m{^/(?:dev|proc|sys)(?:/|$)};
}

# What a path leads to. It stays what it is, whatever is renamed.
sub followed {
  my ($path) = @_;
  my $fd = open_way(-100, $path, $PATH_ONLY);
  failed($path) if $fd < 0;
  refuse_kernels($fd, $path);
  held_place($fd);
}

# The directory that names lead to from a base; what is missing is made where there is an owner. `resolve`: how far links may lead.
sub directory_at {
  my ($base, $path, $names, $resolve, $owner, $mode) = @_;
  my $flags = $PATH_ONLY | $N{O_DIRECTORY};
  my $whole = open_way($base, join('/', '.', @$names), $flags, $resolve);
  if ($whole >= 0) { refuse_kernels($whole, $path); return $whole }
  failed($path) if $! != 2 || !$owner;
  my $at = open_way($base, '.', $flags);
  for my $count (1 .. @$names) {
    my $way = join('/', '.', @$names[0 .. $count - 1]);
    my $next = open_way($base, $way, $flags, $resolve);
    if ($next < 0 && $! == 2) {
      my $place = held_place($at) . "/$names->[$count - 1]";
      if (!make_directory($place, $owner, length($mode // '') ? $mode : 0755)) { $! == 17 ? fault('not-a-directory', $path) : failed($path) }
      $next = open_way($base, $way, $flags, $resolve);
    }
    failed($path) if $next < 0;
    refuse_kernels($next, $path);
    let_go($at);
    $at = $next;
  }
  $at;
}

sub make_directory {
  my ($place, $owner, $mode) = @_;
  mkdir $place, 0755 or return;
  if (my $made = open_directory($place, $N{O_NOFOLLOW})) { chown @$owner, $made; chmod $mode, $made }
  1;
}

my $root_fd;
# As a process would find it, but for the last name, which is not looked at; missing parents are made.
sub loose_place {
  my ($path, $owner, $mode) = @_;
  my @names = names_of($path);
  my $last = pop @names;
  $root_fd //= open_way(-100, '/', $PATH_ONLY | $N{O_DIRECTORY});
  held_place(directory_at($root_fd, $path, \@names, 0, $owner, $mode)) . '/' . ($last // '.');
}

sub place_of { my ($path, $strict, $owner, $mode) = @_; $strict ? strict_place('/', $path, $owner) : loose_place($path, $owner, $mode) }

# Goes through all below a directory while hostile processes change it, however deep: it holds one descriptor, and the way back up is `..`,
# believed only where it leads to the directory that was left. `visit` is called in the directory with a name, a path and a status and says
# whether to go on (undef ends it all) into a directory; `leave` in the parent, when all below has been seen.
sub walk {
  my ($top, $path, $visit, $leave) = @_;
  my $level = sub { { name => $_[0], path => $_[1], is => join(' ', (stat '.')[0, 1]), names => [eval { names_in('.', '') }] } };
  my $enter = sub { my $next = open_directory($_[0], $N{O_NOFOLLOW}) or return; chdir $next };
  chdir $top or return;
  my @levels = ($level->('', $path));
  while (@levels) {
    my $here = $levels[-1];
    my $name = shift @{$here->{names}};
    if (defined $name) {
      my @status = status_of("./$name", 0) or next;
      my $below = defined $here->{path} ? ($here->{path} eq '' ? $name : "$here->{path}/$name") : undef;
      my $inside = $visit->($name, $below, @status);
      last if !defined $inside;
      push @levels, $level->($name, $below) if $inside && $status[0] eq 'directory' && $enter->("./$name");
      next;
    }
    pop @levels;
    last if !@levels;
    my $kept = @levels;
    if (!chdir '..' or join(' ', (stat '.')[0, 1]) ne $levels[-1]{is}) {
      chdir $top or last;
      for my $depth (1 .. $#levels) {
        next if $enter->("./$levels[$depth]{name}") && join(' ', (stat '.')[0, 1]) eq $levels[$depth]{is};
        $#levels = $depth - 1;
        last;
      }
      # What was entered last may have been another one.
      last if join(' ', (stat '.')[0, 1]) ne $levels[-1]{is};
    }
    $leave->($here->{name}) if $leave && @levels == $kept;
  }
  chdir '/';
}

# Type, size, permission bits, uid, gid, changed at (ms), read at (ms), links, whole mode, blocks; nothing where it is not there.
sub status_of {
  my ($place, $follow) = @_;
  my $buffer = "\0" x 256;
  syscall($N{statx}, -100, $place, $follow ? 0 : 0x100, 0x7ff, $buffer) == 0 or return;
  my ($links, $uid, $gid, $mode) = unpack('x16 L L L S', $buffer);
  my ($size, $blocks) = unpack('x40 Q Q', $buffer);
  my ($read_s, $read_ns, $changed_s, $changed_ns) = unpack('x64 q L x4 x32 q L', $buffer);
  my %types = (0100000 => 'file', 0040000 => 'directory', 0120000 => 'symlink', 0010000 => 'fifo', 0140000 => 'socket');
  my $type = $types{$mode & 0170000} || 'device';
  ($type, $size, $mode & 07777, $uid, $gid, $changed_s * 1000 + int($changed_ns / 1e6), $read_s * 1000 + int($read_ns / 1e6), $links, $mode, $blocks);
}

sub entry { my ($path, $place, @status) = @_; ($path, @status[0 .. 5], $status[0] eq 'symlink' ? readlink($place) // '' : '') }

sub names_in {
  my ($place, $path) = @_;
  opendir(my $directory, $place) or failed($path);
  sort grep { $_ ne '.' && $_ ne '..' } readdir $directory;
}

# A regular file, open for reading; no trace is left in its access time.
sub open_file {
  my ($place, $path, $strict) = @_;
  sysopen(my $file, $place, $NONBLOCK | $NOATIME | ($strict ? $N{O_NOFOLLOW} : 0)) or failed($path, $strict);
  -f $file or fault('not-a-file', $path);
  $file;
}

sub send_bytes {
  my ($file, $left) = @_;
  while (!defined $left || $left > 0) {
    my $n = sysread($file, my $bytes, defined $left && $left < 65536 ? $left : 65536);
    next if !defined $n && $! == $EINTR;
    last if !$n;
    $left -= $n if defined $left;
    answer('data', $bytes);
  }
}

# --- in the child: what can be asked for ------------------------------------------------------------------------------------------------

$operations{stat} = sub {
  my ($path, $follow) = @_;
  my $place = $follow ? followed($path) : loose_place($path);
  my @status = status_of($place, $follow) or failed($path);
  entry($path, $place, @status);
};

$operations{list} = sub {
  my ($path, $recursive, $limit) = @_;
  my $place = followed($path);
  my @status = status_of($place, 1) or failed($path);
  fault('not-a-directory', $path) if $status[0] ne 'directory';
  my $directory = open_directory($place, 0) or failed($path);
  my ($left, $more) = ($limit, 0);
  walk($directory, join('', map { "/$_" } names_of($path)), sub {
    my ($name, $below, @child) = @_;
    if ($left-- <= 0) { $more = 1; return undef }
    answer('entry', entry(substr($below, 0, 1) eq '/' ? $below : "/$below", "./$name", @child));
    $recursive ? 1 : 0;
  });
  $more;
};

# Bytes of a file. `length` empty: to its end, and then at most `most`.
$operations{read} = sub {
  my ($path, $strict, $offset, $length, $most) = @_;
  my $file = open_file($strict ? strict_place('/', $path) : followed($path), $path, $strict);
  my $size = -s $file;
  fault('too-large', $path) if $length eq '' && $most ne '' && $size - $offset > $most;
  sysseek($file, $offset, 0) if $offset;
  send_bytes($file, $length ne '' ? $length : $most ne '' ? $most + 1 : undef);
  $size;
};

# `sparse`: how large it becomes, where every chunk begins with its offset; else empty.
sub write_file {
  my ($place, $path, $strict, $mode, $uid, $gid, $append, $sparse) = @_;
  my $flags = 1 | $NONBLOCK | ($strict ? $N{O_NOFOLLOW} : 0);
  my $new = sysopen(my $file, $place, $flags | $CREATE | $EXCLUSIVE, 0600);
  if (!$new) {
    failed($path, $strict) if $! != 17;
    # A link that leads nowhere is made by whoever follows it.
    my $fd = $strict ? -1 : open_way(-100, $path, $PATH_ONLY);
    failed($path) if !$strict && $fd < 0 && $! != 2;
    refuse_kernels($fd, $path) if $fd >= 0;
    $place = held_place($fd) if $fd >= 0;
    sysopen($file, $place, $flags | ($fd < 0 ? $CREATE : 0), 0600) or failed($path, $strict);
    refuse_kernels(fileno $file, $path);
  }
  my @status = status_of(held_place(fileno $file), 1);
  fault($strict ? 'unsafe-path' : 'not-a-file', $path) if $status[0] ne 'file';
  # A second hard link would let the sandbox name a file that the caller did not mean.
  fault('unsafe-path', $path) if $strict && $status[7] > 1;
  $append ? sysseek($file, 0, 2) : truncate($file, 0);
  my $bytes = 0;
  my $whole = eval {
    while (length(my $chunk = next_chunk())) {
      sysseek($file, unpack('Q>', substr($chunk, 0, 8, '')), 0) if length($sparse // '');
      $bytes += length $chunk;
      write_all($file, $chunk) or failed($path);
    }
    truncate($file, $sparse) or failed($path) if length($sparse // '');
    1;
  };
  # A file that is not whole is none; what was there before is not brought back.
  if (!$whole) { my $why = $@; unlink $place if $new; die $why }
  if ($new || $strict) { chown $uid, $gid, $file; chmod $mode eq '' ? 0644 : $mode, $file }
  elsif ($mode ne '') { chmod $mode, $file }
  ($file, $bytes);
}

$operations{write} = sub {
  my ($path, $mode, $uid, $gid, $append) = @_;
  my (undef, $bytes) = write_file(loose_place($path, [$uid, $gid]), $path, 0, $mode, $uid, $gid, $append);
  $bytes;
};

# Any number of files, each followed by its bytes. Their access times say later whether they were read; `watch`: and by whom ever.
$operations{plant} = sub {
  my ($unread, $watch, @files) = @_;
  while (my ($path, $mode, $uid, $gid) = splice(@files, 0, 4)) {
    my ($file) = write_file(strict_place('/', $path, [$uid, $gid]), $path, 1, $mode, $uid, $gid, 0);
    utime $unread, time, $file;
    my $name = '/proc/self/fd/' . fileno $file;
    my $number = $watch && $reads ? syscall($N{inotify_add_watch}, fileno $reads, $name, 0x11) : -1;
    answer('planted', $path, $number);
  }
};

$operations{mkdir} = sub {
  my ($path, $strict, $mode, $uid, $gid) = @_;
  my $place = place_of($path, $strict, [$uid, $gid], $mode);
  return if make_directory($place, [$uid, $gid], $mode eq '' ? 0755 : $mode);
  failed($path, $strict) if $! != 17;
  my @status = $strict ? status_of($place, 0) : status_of(followed($path), 1);
  fault($strict ? 'unsafe-path' : 'not-a-directory', $path) if !@status || $status[0] ne 'directory';
  chown $uid, $gid, $place if $strict;
};

sub remove_all {
  my ($place, $path) = @_;
  return if unlink $place;
  failed($path) if $! != 21 && $! != 1;
  my $directory = open_directory($place, $N{O_NOFOLLOW}) or failed($path);
  walk($directory, undef, sub {
    my ($name, undef, $type) = @_;
    return 1 if $type eq 'directory';
    unlink "./$name" or $! == 2 or $! == 21 or failed($path);
    0;
  }, sub { rmdir "./$_[0]" or $! == 2 or failed($path) });
  rmdir $place or failed($path);
}

$operations{remove} = sub {
  my ($path, $recursive) = @_;
  fault('unsafe-path', $path) if !names_of($path);
  my $place = loose_place($path);
  my @status = status_of($place, 0) or failed($path);
  return remove_all($place, $path) if $recursive;
  ($status[0] eq 'directory' ? rmdir $place : unlink $place) or failed($path);
};

$operations{move} = sub {
  my ($from, $to, $overwrite) = @_;
  my ($source, $target) = (loose_place($from), loose_place($to));
  my @status = status_of($source, 0) or failed($from);
  syscall($N{renameat2}, -100, $source, -100, $target, $overwrite ? 0 : 1) == 0 or failed($! == 2 || $! == 22 ? $from : $to);
};

# What a path leads to, and all below it; links there themselves, never what they name.
sub each_below {
  my ($path, $recursive, $do) = @_;
  my $place = followed($path);
  my @status = status_of($place, 1) or failed($path);
  $do->($place, $status[0]);
  return if !$recursive || $status[0] ne 'directory';
  my $directory = open_directory($place, 0) or return;
  walk($directory, undef, sub {
    my $fd = open_way(-100, "./$_[0]", $PATH_ONLY | $N{O_NOFOLLOW});
    return 0 if $fd < 0;
    my @held = status_of(held_place($fd), 1);
    $do->(held_place($fd), $held[0]);
    let_go($fd);
    1;
  });
}

$operations{chown} = sub {
  my ($path, $uid, $gid, $recursive) = @_;
  each_below($path, $recursive, sub { syscall($N{fchownat}, -100, $_[0], $uid + 0, $gid + 0, 0) == 0 or failed($path) });
};

$operations{chmod} = sub {
  my ($path, $mode, $recursive) = @_;
  each_below($path, $recursive, sub { $_[1] eq 'symlink' || chmod $mode, $_[0] or failed($path) });
};
