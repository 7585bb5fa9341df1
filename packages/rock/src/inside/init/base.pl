# PID 1 of every sandbox. Root-owned, it starts shells and programs for the driver, passes their output on, enforces their
# deadlines, and reaps every orphan. It speaks frames with the driver on fd 0 and fd 1: a 32-bit length, then strings that each
# carry a 32-bit length (control.ts is the other end). When the driver goes away, fd 0 ends and so does everything here, because
# the kernel ends a pid namespace with its first process. It loads no module: it has to start in milliseconds, from perl alone.
#
# What a first program needs (base, streams, processes, programs, main) is compiled at once; every other part when something of it is
# first asked for, because compiling all of it takes as long as starting a process. What parts share are therefore package variables.
# This one: parts, frames, and what the loop consists of.
$0 = 'init';
forget_arguments();
$SIG{PIPE} = 'IGNORE';
binmode STDIN; binmode STDOUT;

# SYS: numbers of system calls by name. %jobs: by id, what runs for the driver (see programs and shells); %links: connections.
our ($SYS, $signals, %handlers, %jobs, %links);
our ($EINTR, $EIO, $EAGAIN, $EINPROGRESS, $WNOHANG, $FIONREAD) = (4, 5, 11, 115, 1, 0x541B);

# The kernel shows everybody the arguments of PID 1: its loader's, and this program. Setting $0 reaches perl's own only.
sub forget_arguments {
  open(my $stat, '<', '/proc/self/stat') or return;
  my $line = <$stat>;
  my ($start, $end) = (split ' ', substr($line, rindex($line, ')') + 2))[45, 46];
  open(my $memory, '+<', '/proc/self/mem') or return;
  sysseek($memory, $start, 0) && syswrite($memory, pack('a' . ($end - $start), 'init'));
}

# Texts of parts that are not compiled yet.
our @LATER;

sub compile_what_has {
  my ($definition) = @_;
  my ($at) = grep { $LATER[$_] =~ $definition } 0 .. $#LATER;
  return 0 if !defined $at;
  my ($part) = splice(@LATER, $at, 1);
  eval "$part\n1" or die $@;
}

sub AUTOLOAD {
  my ($name) = our $AUTOLOAD =~ /(\w+)$/;
  compile_what_has(qr/^sub \Q$name\E\b/m) or die "there is no $name\n";
  goto &$name;
}

sub handler { my ($type) = @_; compile_what_has(qr/^\$handlers\{'?\Q$type\E'?\}/m) if !$handlers{$type}; $handlers{$type} }

# Whatever has streams and a feed under an id.
sub flowing { $jobs{$_[0]} || $links{$_[0]} }

sub clock { my $t = pack('q2', 0, 0); syscall($SYS->{clock_gettime}, $_[0], $t); my ($s, $n) = unpack('q2', $t); $s + $n / 1e9 }
sub now { clock(1) }

sub send_frame {
  my $payload = pack('(N/a*)*', @_);
  my $data = pack('N/a*', $payload);
  while (length $data) {
    my $n = syswrite(STDOUT, $data);
    if (defined $n) { substr($data, 0, $n) = '' }
    elsif ($! != $EINTR) { exit 0 }
  }
}

# --- the loop's parts: what is watched, and what is called when it is ready ---------------------------------------------------

our ($READS, $WRITES, %on_read, %on_write) = ('', '');

sub on_read { my ($handle, $do) = @_; my $fd = fileno $handle; $on_read{$fd} = $do; vec($READS, $fd, 1) = 1 }
sub on_write { my ($handle, $do) = @_; my $fd = fileno $handle; $on_write{$fd} = $do; vec($WRITES, $fd, 1) = 1 }
sub no_read { my $fd = fileno $_[0]; if (defined $fd) { delete $on_read{$fd}; vec($READS, $fd, 1) = 0 } }
sub no_write { my $fd = fileno $_[0]; if (defined $fd) { delete $on_write{$fd}; vec($WRITES, $fd, 1) = 0 } }
sub shut { for my $handle (grep { $_ } @_) { no_read($handle); no_write($handle); close $handle } }

sub unblock { my ($handle) = @_; syscall($SYS->{fcntl}, fileno $handle, 4, 04000) } # F_SETFL, O_NONBLOCK

# Bytes that can be read at once.
sub waiting_in { my ($handle) = @_; my $size = pack('i', 0); ioctl($handle, $FIONREAD, $size) ? unpack('i', $size) : 0 }

# As many pipes as asked for, ends in turn; nothing where there are no descriptors left.
sub pipes {
  my ($count) = @_;
  my @ends;
  for (1 .. $count) {
    pipe(my $r, my $w) or return;
    push @ends, $r, $w;
  }
  @ends;
}
