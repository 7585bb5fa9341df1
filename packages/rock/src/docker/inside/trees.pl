# --- files, in the child: whole trees, their fingerprints, and what changes in them ------------------------------------------------------

# Entries of an archive: each a frame of type, name, mode, changed at (s), link, size if it has holes; a file's bytes follow. Links that are
# there, or came with the archive, are followed only as long as they stay below the directory.
$operations{upload} = sub {
  my ($path, $uid, $gid) = @_;
  make_directory(loose_place($path, [$uid, $gid]), [$uid, $gid], 0755);
  my $directory = open_directory(followed($path), 0) or failed($path);
  my $base = fileno $directory;
  my $placed = 0;
  while (1) {
    my $done = eval {
      my $header = next_chunk();
      return 'end' if !length $header;
      unpack_entry($base, [$uid, $gid], unpack('(N/a*)*', $header));
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
  my ($base, $owner, $type, $name, $mode, $changed, $link, $sparse) = @_;
  my ($uid, $gid) = @$owner;
  my @names = names_of($name);
  my $last = pop @names;
  my $parent = directory_at($base, $name, \@names, $BENEATH, $owner);
  my $place = held_place($parent) . "/$last";
  my @status = status_of($place, 0);
  if ($type eq 'directory') {
    fault('unsafe-path', $name) if @status && $status[0] ne 'directory';
    @status or make_directory($place, $owner, $mode) or failed($name);
    return let_go($parent);
  }
  if (@status) { $status[0] eq 'directory' ? fault('unsafe-path', $name) : unlink $place }
  if ($type eq 'symlink') {
    symlink $link, $place or failed($name);
    syscall($N{fchownat}, -100, $place, $uid + 0, $gid + 0, 0x100);
  } elsif ($type eq 'link') {
    my @way = names_of($link);
    my $target = pop @way;
    my $other = directory_at($base, $name, \@way, $BENEATH);
    my @linked = status_of(held_place($other) . "/$target", 0);
    fault('unsafe-path', $name) if !@linked || $linked[0] ne 'file';
    syscall($N{linkat}, $other, $target, $parent, $last, 0) == 0 or failed($name);
    let_go($other);
  } else {
    my ($file) = write_file($place, $name, 1, $mode, $uid, $gid, 0, $sparse);
    utime $changed, $changed, $file;
  }
  let_go($parent);
}

# Entries in the order of an archive, of what is there and nothing else; a file's with the pieces that hold its data.
$operations{download} = sub {
  my ($path) = @_;
  my $place = followed($path);
  my @status = status_of($place, 1) or failed($path);
  my ($name) = reverse names_of($path);
  answer('begun');
  return send_file($place, $name, 0) || fault('not-a-file', $path) if $status[0] ne 'directory';
  answer('entry', entry($name // '.', $place, @status));
  my $directory = open_directory($place, 0) or failed($path);
  walk($directory, $name // '', sub {
    my ($child, $below, @inner) = @_;
    if ($inner[0] eq 'file') { send_file("./$child", $below, $N{O_NOFOLLOW}) }
    elsif ($inner[0] eq 'directory' || $inner[0] eq 'symlink') { answer('entry', entry($below, "./$child", @inner)) }
    1;
  });
};

# Nothing where it is no file. A header must not promise more or less than follows.
sub send_file {
  my ($place, $name, $flags) = @_;
  sysopen(my $file, $place, $NONBLOCK | $NOATIME | $flags) or return;
  my @status = status_of(held_place(fileno $file), 1);
  return if $status[0] ne 'file';
  my @pieces = pieces_of($file, $status[1], $status[9]);
  answer('entry', entry($name, $place, @status), @pieces);
  @pieces = (0, $status[1]) if !@pieces;
  while (my ($offset, $length) = splice(@pieces, 0, 2)) { send_exactly($file, $offset, $length) }
  1;
}

# Offsets and lengths of what holds data, none where holes are not worth the trouble.
sub pieces_of {
  my ($file, $size, $blocks) = @_;
  return if $blocks * 512 + 65536 >= $size;
  my @pieces;
  for (my $at = 0; $at < $size;) {
    my $data = sysseek($file, $at, 3); # SEEK_DATA, then SEEK_HOLE
    last if !defined $data || $data >= $size;
    my $hole = @pieces < 19998 ? sysseek($file, $data + 0, 4) : $size;
    $hole = $size if !defined $hole || $hole > $size;
    push @pieces, $data + 0, $hole - $data;
    $at = $hole;
  }
  # One that ends in a hole says where it ends.
  push @pieces, $size, 0 if !@pieces || $pieces[-2] + $pieces[-1] < $size;
  @pieces;
}

# What a file lost meanwhile is filled with zeros, what it gained is left out.
sub send_exactly {
  my ($file, $offset, $left) = @_;
  sysseek($file, $offset, 0);
  while ($left > 0) {
    my $n = sysread($file, my $bytes, $left < 65536 ? $left : 65536);
    next if !defined $n && $! == $EINTR;
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
  # Not held: what is held is not gone when it is removed.
  let_go($1) if followed($path) =~ m{(\d+)$};
  my $fd = syscall($N{inotify_init1}, 02000000);
  $fd >= 0 && open(my $queue, '<&=', $fd) or failed($path);
  my %places;
  my $add = sub {
    my ($place) = @_;
    my $watch = syscall($N{inotify_add_watch}, $fd, $place, 0x7c6); # MODIFY, ATTRIB, MOVED_*, CREATE, DELETE, DELETE_SELF
    if ($watch >= 0) { $places{$watch} = $place }
    elsif ($! == 28) { answer('change', 'lost', $place) } # as many as one user may have
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
      if ($mask & 0x4000) { answer('change', 'lost', $path); next } # IN_Q_OVERFLOW
      my $at = $places{$watch} // next;
      if ($at eq $path && $mask & 0x400) { answer('change', 'removed', $path); return }
      my $what = length $name ? ($at eq '/' ? "/$name" : "$at/$name") : $at;
      next if $mask & 0x8000; # IN_IGNORED
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
