# --- links: connections to what listens on the sandbox's loopback ----------------------------------------------------------------------

$handlers{connect} = sub {
  my ($id, $port, $credit) = @_;
  return if flowing($id);
  my $link = { id => $id, credit => $credit };
  $link->{targets} = [[2, pack('S n N x8', 2, $port, 0x7f000001)], [10, pack('S n N a16 N', 10, $port, 0, "\0" x 15 . "\1", 0)]];
  $links{$id} = $link;
  dial($link);
};

# The next address; refused when there is none left.
sub dial {
  my ($link) = @_;
  while (my $target = shift @{$link->{targets}}) {
    my ($family, $address) = @$target;
    socket(my $socket, $family, 1 | 04000, 0) or $link->{why} ||= "$!", next; # SOCK_STREAM | SOCK_NONBLOCK
    $link->{socket} = $socket;
    return linked($link) if connect($socket, $address);
    if ($! == $EINPROGRESS) { on_write($socket, sub { dialled($link) }); return }
    $link->{why} ||= "$!";
    shut($socket);
  }
  delete $links{$link->{id}};
  send_frame('fail', $link->{id}, $link->{why});
}

sub dialled {
  my ($link) = @_;
  no_write($link->{socket});
  local $! = unpack('i', getsockopt($link->{socket}, 1, 4) || pack('i', 104)); # SO_ERROR
  return linked($link) if !($! + 0);
  $link->{why} ||= "$!";
  shut($link->{socket});
  dial($link);
}

sub linked {
  my ($link) = @_;
  my ($id, $socket) = @$link{qw(id socket)};
  send_frame('started', $id, 0);
  $link->{in} = open_feed({ id => $id, to => $socket, acks => 1, queue => '', done => sub { shutdown($socket, 1); unlink_if_done($link) } });
  $link->{out} = open_stream({ id => $id, name => 'out', from => $socket, credit => $link->{credit},
    ended => sub { send_frame('end', $id, 'out'); unlink_if_done($link) } });
}

sub unlink_if_done {
  my ($link) = @_;
  hang_up($link) if $link->{in} && $link->{out} && $link->{in}{over} && $link->{out}{over};
}

sub hang_up {
  my ($link) = @_;
  delete $links{$link->{id}} or return;
  shut($link->{socket});
  send_frame('exit', $link->{id}, 0, '');
  delete $_->{ended}, delete $_->{done} for grep { $_ } @$link{qw(in out)};
}

$handlers{'hang-up'} = sub { my ($id) = @_; hang_up($links{$id}) if $links{$id} };
