# --- output: kept, passed on, or dropped ----------------------------------------------------------------------------------------

# Keeps the first and the last bytes, and counts all.
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

# A stream: `from` a handle; to a `sink`, or to the driver as far as its `credit` reaches, or both. At its end `ended` is called.
sub open_stream {
  my ($stream) = @_;
  unblock($stream->{from});
  watch_stream($stream);
  $stream;
}

sub watch_stream { my ($stream) = @_; on_read($stream->{from}, sub { read_stream($stream) }) }

# One read of what is there, and not more than may be passed on: what has no place stays in the pipe and stops its writer.
sub read_stream {
  my ($stream) = @_;
  my $most = 65536;
  $most = $stream->{credit} if defined $stream->{credit} && $stream->{credit} < $most;
  return no_read($stream->{from}) if $most <= 0;
  $most = $stream->{left} if defined $stream->{left} && $stream->{left} < $most;
  my $n = $most > 0 ? sysread($stream->{from}, my $chunk, $most) : 0;
  return if !defined $n && ($! == $EINTR || $! == $EAGAIN && !$stream->{last});
  return end_stream($stream) if !$n;
  take($stream->{sink}, $chunk) if $stream->{sink};
  if (defined $stream->{credit}) {
    send_frame('out', $stream->{id}, $stream->{name}, $chunk);
    $stream->{credit} -= $n;
  }
  if (defined $stream->{left}) {
    $stream->{left} -= $n;
    end_stream($stream) if $stream->{left} <= 0;
  }
}

# Of what its writers left behind everything is still read, but not what others may yet write: a process in the background cannot hold
# up the end.
sub read_the_rest {
  my ($stream) = @_;
  return if $stream->{over};
  $stream->{last} = 1;
  # A terminal hides bytes that are on their way; reading until there is nothing finds them, the bound is what it can hold.
  $stream->{left} = $stream->{terminal} ? 262144 : waiting_in($stream->{from});
  return end_stream($stream) if $stream->{left} <= 0;
  if (defined $stream->{credit}) { watch_stream($stream); return }
  read_stream($stream) while !$stream->{over};
}

sub end_stream {
  my ($stream) = @_;
  return if $stream->{over};
  $stream->{over} = 1;
  no_read($stream->{from});
  my $ended = delete $stream->{ended};
  $ended->($stream) if $ended;
}
