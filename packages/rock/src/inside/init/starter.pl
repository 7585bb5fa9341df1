# What PID 1 is until something is asked of it: it says that it is there, and takes the rest of its program with the first request. A
# sandbox that waits for work costs a third of one that has worked.
$0 = 'init';
binmode STDIN; binmode STDOUT;
our ($INBOX, @START) = ('');
while (1) {
  sysread(STDIN, $INBOX, 65536, length $INBOX) or $! == 4 or exit 0;
  while (length $INBOX >= 4 && length $INBOX >= 4 + (my $length = unpack('N', $INBOX))) {
    my ($type, @fields) = unpack('(N/a*)*', substr($INBOX, 4, $length));
    substr($INBOX, 0, 4 + $length) = '';
    if ($type eq 'start') { @START = @fields; syswrite(STDOUT, pack('N/a*', pack('N/a*', 'ready'))) }
    else { eval $fields[0]; die $@ }
  }
}
