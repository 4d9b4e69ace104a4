#!/usr/bin/perl
# The measuring half of checkpoint.sh: EVENTS-SOCKET RUNS
use strict;
use warnings;
use IO::Socket::UNIX;
use JSON::PP;
use Time::HiRes 'time';

my ($path, $runs) = @ARGV;
open(my $out, '>&', \*STDOUT) or die;
open(STDOUT, '>', '/dev/null') or die; # the commands' own
my $s = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $path) or die "cannot connect to $path: $!\n";
<$s>;
print $s qq({"execute":"qmp_capabilities"}\n);
$s->flush;
<$s>;

# One command: its wall time, and what QEMU's clock says from the job's creation to its end.
sub run {
	my @command = @_;
	my $from = time;
	system($ENV{FERMATA}, @command) == 0 or die "@command: failed\n";
	return 1000 * (time - $from);
}
# When QEMU sent the event, in milliseconds.
sub at {
	my ($m) = @_;
	return 1000 * $m->{timestamp}{seconds} + $m->{timestamp}{microseconds} / 1000;
}
sub job {
	my ($created, $concluded);
	while (my $line = <$s>) {
		my $m = decode_json($line);
		next unless ($m->{event} // '') eq 'JOB_STATUS_CHANGE';
		my $at = at($m);
		$created = $at if $m->{data}{status} eq 'created';
		$concluded = $at if $m->{data}{status} eq 'concluded';
		return $concluded - $created if $m->{data}{status} eq 'null';
	}
	die "QEMU is gone\n";
}
# The same job by hand, on a connection that is open already: send it, wait for its end, ask how it went, dismiss it.
sub ask {
	my ($command, $args) = @_;
	print $s encode_json({ execute => $command, arguments => $args }), "\n";
	$s->flush;
	while (my $line = <$s>) {
		my $m = decode_json($line);
		die "$command: $m->{error}{desc}\n" if $m->{error};
		return $m->{return} if exists $m->{return};
	}
	die "QEMU is gone\n";
}
# What it took, and what of that was QEMU's, by QEMU's clock.
sub by_hand {
	my ($command, $args) = @_;
	my ($from, $created, $end) = (time);
	print $s encode_json({ execute => $command, arguments => { 'job-id' => 'hand', devices => ['vda.0', 'vdb.0'], %$args } }), "\n";
	$s->flush;
	while (!$end) {
		my $m = decode_json(<$s> // die "QEMU is gone\n");
		die "$command: $m->{error}{desc}\n" if $m->{error};
		next unless ($m->{event} // '') eq 'JOB_STATUS_CHANGE';
		my $at = at($m);
		$created = $at if $m->{data}{status} eq 'created';
		$end = $at if $m->{data}{status} eq 'concluded';
	}
	for my $job (@{ ask('query-jobs', {}) }) { die "$command: $job->{error}\n" if $job->{error} }
	ask('job-dismiss', { id => 'hand' });
	my $took = 1000 * (time - $from);
	return ($took, $end - $created);
}
sub say_row {
	my ($name, @t) = @_;
	@t = sort { $a <=> $b } @t;
	printf $out "%-46s %7.1f (%.1f, %.1f)\n", $name, $t[$#t / 2], $t[0], $t[-1];
}

my %t;
for my $i (1 .. $runs) {
	my ($hand, $hand_job) = by_hand('snapshot-save', { tag => "h$i", vmstate => 'vda.0' });
	by_hand('snapshot-delete', { tag => "h$i" });
	push @{ $t{"snapshot-save by hand: QEMU's job"} }, $hand_job;
	push @{ $t{"snapshot-save by hand: over it"} }, $hand - $hand_job;
	for my $c (['snapshot-create-as', "k$i"], ['snapshot-revert', "k$i"], ['snapshot-delete', "k$i"]) {
		my $wall = run($c->[0], 'w', $c->[1]);
		my $job = job();
		push @{ $t{"$c->[0]: QEMU's job"} }, $job;
		push @{ $t{"$c->[0]: over it"} }, $wall - $job;
		push @{ $t{"$c->[0]: over it, less the same by hand"} }, $wall - $job - ($hand - $hand_job)
			if $c->[0] eq 'snapshot-create-as';
	}
	push @{ $t{'/bin/true, for comparison'} }, do { my $f = time; system('/bin/true'); 1000 * (time - $f) };
	push @{ $t{'list'} }, run('list');
}
run('snapshot-create-as', 'w', "l$_"), job() for 1 .. 20;
push @{ $t{'snapshot-list of 20'} }, run('snapshot-list', 'w') for 1 .. $runs;
say_row($_, @{ $t{$_} }) for sort keys %t;
