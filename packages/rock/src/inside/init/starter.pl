# What begins PID 1's program: it says that it is there, where nobody has said it yet, and takes the program with the first request.
$0 = 'init';
binmode STDIN; binmode STDOUT;
our ($INBOX, @START) = ('');
syswrite(STDOUT, pack('N/a*', pack('N/a*', 'ready'))) if !shift;
while (1) {
  sysread(STDIN, $INBOX, 65536, length $INBOX) or $! == 4 or exit 0;
  while (length $INBOX >= 4 && length $INBOX >= 4 + (my $length = unpack('N', $INBOX))) {
    my ($type, @fields) = unpack('(N/a*)*', substr($INBOX, 4, $length));
    substr($INBOX, 0, 4 + $length) = '';
    if ($type eq 'start') { @START = @fields }
    else { (my $first, our @LATER) = @fields; eval $first; die $@ }
  }
}
