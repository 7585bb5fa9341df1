# --- terminals ----------------------------------------------------------------------------------------------------------------------------

# A pseudo terminal that belongs to a user: both ends, or nothing.
sub terminal {
  my ($identity) = @_;
  my ($TIOCSPTLCK, $TIOCGPTN, $RDWR_NOCTTY) = (0x40045431, 0x80045430, 0402);
  sysopen(my $master, '/dev/ptmx', $RDWR_NOCTTY) or return;
  my ($unlock, $number) = (pack('i', 0), pack('i', 0));
  ioctl($master, $TIOCSPTLCK, $unlock) && ioctl($master, $TIOCGPTN, $number) or return;
  sysopen(my $slave, '/dev/pts/' . unpack('i', $number), $RDWR_NOCTTY) or return;
  chown($identity->[0], -1, $slave);
  ($master, $slave);
}

sub resize_terminal { my ($master, $rows, $cols) = @_; my $size = pack('S4', $rows, $cols, 0, 0); ioctl($master, 0x5414, $size) } # TIOCSWINSZ

sub on_terminal {
  my ($job, $size) = @_;
  my ($master, $slave) = terminal($job->{who}) or return;
  resize_terminal($master, split ' ', $size);
  @$job{qw(from_out to_in)} = ($master, $master);
  { in => $slave, out => $slave, err => $slave };
}
