# --- input: what the driver sent and the reader has not taken yet -------------------------------------------------------------------

# A feed: `to` a handle; `queue` holds what is left. With `acks` the driver is told what was taken, so that it never sends more than a
# window ahead. When the `last` has been written, or the reader is gone, `done` is called.
sub open_feed {
  my ($feed) = @_;
  unblock($feed->{to});
  push_feed($feed, '');
  $feed;
}

sub push_feed {
  my ($feed, $bytes, $last) = @_;
  return if $feed->{over};
  $feed->{queue} .= $bytes;
  $feed->{last} = 1 if $last;
  if (length $feed->{queue}) { on_write($feed->{to}, sub { write_feed($feed) }) }
  elsif ($feed->{last}) { end_feed($feed) }
}

sub write_feed {
  my ($feed) = @_;
  my $n = syswrite($feed->{to}, $feed->{queue});
  if (!defined $n) {
    return if $! == $EINTR || $! == $EAGAIN;
    send_frame('deaf', $feed->{id}) if $feed->{acks};
    return end_feed($feed);
  }
  substr($feed->{queue}, 0, $n) = '';
  send_frame('taken', $feed->{id}, $n) if $feed->{acks};
  return if length $feed->{queue};
  no_write($feed->{to});
  end_feed($feed) if $feed->{last};
}

sub end_feed {
  my ($feed) = @_;
  return if $feed->{over};
  @$feed{qw(over queue)} = (1, '');
  no_write($feed->{to});
  my $done = delete $feed->{done};
  $done->($feed) if $done;
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

# --- output, when somebody takes it as it comes -----------------------------------------------------------------------------------------

# The same at once, whatever the credit: at most what a pipe holds.
sub drain_stream {
  my ($stream) = @_;
  $stream->{credit} += 1 << 30 if defined $stream->{credit};
  @$stream{qw(last left)} = (1, waiting_in($stream->{from}));
  read_stream($stream) while !$stream->{over} && $stream->{left} > 0;
  end_stream($stream);
}

sub add_credit {
  my ($stream, $bytes) = @_;
  return if !$stream || $stream->{over} || !defined $stream->{credit};
  $stream->{credit} += $bytes;
  watch_stream($stream);
}

# From now on read and forgotten.
sub drop_stream {
  my ($stream) = @_;
  return if !$stream || $stream->{over};
  $stream->{credit} = undef;
  watch_stream($stream);
}
