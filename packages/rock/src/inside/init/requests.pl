# --- programs that are talked to while they run ------------------------------------------------------------------------------------------

# Exec closed the pipe, or the child said why there was none. Only then does the driver hear of the program.
sub announce {
  my ($job) = @_;
  my $complaints = delete $job->{complaints};
  sysread($complaints, my $why, 4096);
  shut($complaints);
  if (!length $why) {
    send_frame('started', $job->{id}, $job->{pid});
    $job->{$_} && watch_stream($job->{$_}) for qw(out err);
    return;
  }
  chomp $why;
  send_frame('fail', $job->{id}, $why);
  forget_program($job);
}

$handlers{cancel} = sub { my ($id) = @_; begin_end($jobs{$id}, 'cancelled') if $jobs{$id} };
$handlers{credit} = sub { my ($id, $name, $bytes) = @_; my $job = flowing($id) or return; add_credit($job->{$name}, $bytes) };
$handlers{drop} = sub { my ($id, $name) = @_; my $job = flowing($id) or return; drop_stream($job->{$name}) };

$handlers{write} = sub {
  my ($id, $bytes, $last) = @_;
  my $job = flowing($id) or return;
  return if !$job->{in};
  # A terminal's end of input is a character; whoever hangs up would end the program.
  if ($job->{tty} && $last) { push_feed($job->{in}, "$bytes\x04") }
  else { push_feed($job->{in}, $bytes, $last) }
};

$handlers{signal} = sub {
  my ($id, $number) = @_;
  my $job = $jobs{$id};
  kill $number, -$job->{pid} if $job && !defined $job->{status};
};

$handlers{resize} = sub {
  my ($id, $rows, $cols) = @_;
  my $job = $jobs{$id};
  resize_terminal($job->{out}{from}, $rows, $cols) if $job && $job->{tty} && !defined $job->{status};
};
