# --- files, in the child: whole trees, their fingerprints, and what changes in them ------------------------------------------------------

# Entries of an archive: each a frame of type, name, mode, changed at (s), link; a file's bytes follow. Below the directory no link is followed.
$operations{upload} = sub {
  my ($path, $uid, $gid) = @_;
  my $place = loose_place($path, [$uid, $gid]);
  if (mkdir $place, 0755) { chown $uid, $gid, $place }
  my @status = status_of($place, 1) or failed($path);
  fault('not-a-directory', $path) if $status[0] ne 'directory';
  my $placed = 0;
  while (1) {
    my $done = eval {
      my $header = next_chunk();
      return 'end' if !length $header;
      my ($type, $name, $mode, $changed, $link) = unpack('(N/a*)*', $header);
      unpack_entry($place, $type, $name, $mode, $changed, $link, $uid, $gid);
      'next';
    };
    last if defined $done && $done eq 'end';
    if (!defined $done) {
      my ($type, $where, $why) = ref $@ ? @{$@} : ('', '', $@);
      my $what = $type eq 'unsafe-path' && $where ne '' ? "$where leads through a link, or over something of another kind" : join ' ', grep { length } $where, $why || $type;
      fault($type eq 'disk-full' ? $type : 'bad-archive', $path, "$what; $placed " . ($placed == 1 ? 'entry is' : 'entries are') . ' in place');
    }
    $placed++;
  }
};

sub unpack_entry {
  my ($base, $type, $name, $mode, $changed, $link, $uid, $gid) = @_;
  my $place = strict_place($base, $name, [$uid, $gid]);
  if ($type eq 'directory') {
    if (mkdir $place, 0755) { chown $uid, $gid, $place; chmod $mode, $place; return }
    failed($name) if $! != 17;
    my @status = status_of($place, 0);
    fault('unsafe-path', $name) if !@status || $status[0] ne 'directory';
    return;
  }
  my @status = status_of($place, 0);
  if (@status) { $status[0] eq 'directory' ? fault('unsafe-path', $name) : unlink $place }
  if ($type eq 'symlink') {
    symlink $link, $place or failed($name);
    syscall($N{fchownat}, -100, $place, $uid + 0, $gid + 0, 0x100);
  } elsif ($type eq 'link') {
    my @kept = @held;
    my $target = strict_place($base, $link);
    my @linked = status_of($target, 0);
    fault('unsafe-path', $name) if !@linked || $linked[0] ne 'file';
    push @held, @kept;
    syscall($N{linkat}, -100, $target, -100, $place, 0) == 0 or failed($name);
  } else {
    my ($file) = write_file($place, $name, 1, $mode, $uid, $gid, 0);
    utime $changed, $changed, $file;
  }
}

$operations{download} = sub {
  my ($path) = @_;
  my @status = status_of($path, 1) or failed($path);
  my ($name) = reverse names_of($path);
  send_tree($path, $name // '.', @status);
};

sub send_tree {
  my ($place, $name, @status) = @_;
  my ($type) = @status;
  return if $type ne 'file' && $type ne 'directory' && $type ne 'symlink';
  my $file;
  if ($type eq 'file') {
    sysopen($file, $place, $NONBLOCK | $NOATIME) or return;
    # It may have changed since; a header must not promise more or less than follows.
    @status = status_of('/proc/self/fd/' . fileno $file, 1);
    return if $status[0] ne 'file';
  }
  answer('entry', entry($name, $place, @status));
  return send_exactly($file, $status[1]) if $file;
  return if $type ne 'directory';
  my $directory = open_directory($place, 0) or return;
  for my $child (names_in(inside($directory, '.'), $name)) {
    my $inner = inside($directory, $child);
    my @inner = status_of($inner, 0) or next;
    send_tree($inner, "$name/$child", @inner);
  }
}

# What a file lost meanwhile is filled with zeros, what it gained is left out.
sub send_exactly {
  my ($file, $left) = @_;
  while ($left > 0) {
    my $n = sysread($file, my $bytes, $left < 65536 ? $left : 65536);
    $bytes = "\0" x ($left < 65536 ? $left : 65536) if !$n;
    $left -= length $bytes;
    answer('data', $bytes);
  }
}

# --- fingerprints -------------------------------------------------------------------------------------------------------------------------

my ($entries, $depth);

$operations{fingerprint} = sub {
  answer('reads', $lost_reads ? 1 : 0, keys %was_read);
  for my $path (@_) {
    ($entries, $depth) = (20000, 64);
    my $place = eval { strict_place('/', $path) } or answer('print', $path, $@->[0]), next;
    print_of($place, 'print', $path);
  }
};

# One that is there begins with its kind and whole mode, size and time of the last read; then come bytes or entries, then `end`.
sub print_of {
  my ($place, $frame, $name) = @_;
  my @status = status_of($place, 0) or return answer($frame, $name, 'not-found');
  my ($type) = @status;
  my $handle;
  if ($type eq 'file') { sysopen($handle, $place, $NONBLOCK | $NOATIME | $N{O_NOFOLLOW}) or $type = 'unsafe-path' }
  elsif ($type eq 'directory') { $handle = open_directory($place, $N{O_NOFOLLOW}) or $type = 'unsafe-path' }
  elsif ($type eq 'symlink' || $type eq 'socket') { $type = 'unsafe-path' }
  answer($frame, $name, $type, $status[8], $status[1], $status[6]);
  return if !$handle;
  if ($type eq 'file') { send_bytes($handle) }
  else { print_entries($handle) }
  answer('end');
}

sub print_entries {
  my ($directory) = @_;
  $depth--;
  for my $name (names_in(inside($directory, '.'), '')) {
    if ($entries-- <= 0 || $depth <= 0) { answer('cut'); last }
    print_of(inside($directory, $name), 'child', $name);
  }
  $depth++;
}

# --- changes as they come -------------------------------------------------------------------------------------------------------------------

$operations{watch} = sub {
  my ($path, $recursive) = @_;
  my @status = status_of($path, 1) or failed($path);
  my $fd = syscall($N{inotify_init1}, 02000000);
  $fd >= 0 && open(my $queue, '<&=', $fd) or failed($path);
  my %places;
  my $add = sub {
    my ($place) = @_;
    my $watch = syscall($N{inotify_add_watch}, $fd, $place, 0x7c6); # MODIFY, ATTRIB, MOVED_*, CREATE, DELETE, DELETE_SELF
    $places{$watch} = $place if $watch >= 0;
  };
  $path =~ s{(?<=.)/+$}{};
  $add->($path);
  watch_below($path, $add) if $recursive;
  answer('ready');
  while (sysread($queue, my $bytes, 65536)) {
    while (length $bytes >= 16) {
      my ($watch, $mask, undef, $length) = unpack('l L L L', $bytes);
      my $name = substr($bytes, 16, $length);
      substr($bytes, 0, 16 + $length) = '';
      $name =~ s/\0+$//;
      my $at = $places{$watch} // next;
      if ($at eq $path && $mask & 0x400) { answer('change', 'removed', $path); return }
      my $what = length $name ? ($at eq '/' ? "/$name" : "$at/$name") : $at;
      next if $mask & 0x8000 || $mask & 0x4000; # IN_IGNORED; an overflow loses what it loses
      next if !length $name && $mask & 0x40000000 && !($mask & 0x400);
      my $kind = $mask & 0x180 && $mask & 0x100 || $mask & 0x80 ? 'created' : $mask & 0x640 ? 'removed' : 'changed';
      answer('change', $kind, $what);
      next if !$recursive || $kind ne 'created' || !($mask & 0x40000000);
      $add->($what);
      watch_below($what, $add, 1);
    }
  }
};

# `tell`: what was made before its directory was watched.
sub watch_below {
  my ($path, $add, $tell) = @_;
  for my $name (eval { names_in($path, $path) }) {
    my $child = $path eq '/' ? "/$name" : "$path/$name";
    my @status = status_of($child, 0) or next;
    answer('change', 'created', $child) if $tell;
    next if $status[0] ne 'directory';
    $add->($child);
    watch_below($child, $add, $tell);
  }
}
