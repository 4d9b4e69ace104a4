#!/usr/bin/perl
# The measuring half of instant.sh: SIZE RUNS
use strict;
use warnings;
use IO::Socket::UNIX;
use JSON::PP;
use POSIX ();
use Text::ParseWords 'shellwords';
use Time::HiRes qw(time usleep);

my ($size, $runs) = @ARGV;
my $root = $ENV{FERMATA_ROOT};
my (%t, $peak);
$peak = 0;

# A command, waited for; what is done meanwhile says what is returned.
sub fermata {
	my ($command, $meanwhile) = @_;
	pipe(my $in, my $out) or die;
	my $pid = fork() // die "fork: $!\n";
	if (!$pid) {
		my $text = qx($ENV{FERMATA} $command 2>&1);
		print $out encode_json([$?, $text]);
		close $out;
		POSIX::_exit(0);
	}
	close $out;
	my $said = $meanwhile && $meanwhile->();
	local $/;
	my ($status, $text) = @{ decode_json(<$in>) };
	waitpid $pid, 0;
	die "$command: $text\n" if $status;
	return $meanwhile ? $said : $text;
}

# A command for its peak of memory alone.
sub peak {
	my (undef, $kib) = split ' ', scalar qx($ENV{LAP} $ENV{FERMATA} @_);
	die "@_ failed\n" if $?;
	$peak = $kib if $kib > $peak;
}

sub stood { return fermata(shift) =~ /paused for ([0-9.]+) ms/ ? $1 : die "no pause\n" }

my $at = 0;   # in the log
my $last = 0; # the last count seen

# All that the guest has said; true when its count has gone back, or it has begun to say something after it was off.
sub look {
	my ($off) = @_;
	open(my $in, '<', "$root/log") or return 0;
	seek($in, $at, 0);
	local $/;
	my $text = <$in> // '';
	my $whole = rindex($text, "\n") + 1;
	$at += $whole;
	my $back = 0;
	for (substr($text, 0, $whole) =~ /^mem=(\d+)/mg) {
		$back = 1 if $off || $_ < $last;
		$last = $_;
		$off = 0;
	}
	return $back;
}

# Milliseconds from now until the guest goes on from a checkpoint.
sub goes_on {
	my ($off) = @_;
	my $from = time;
	until (look($off)) {
		die "the guest is silent\n" if time - $from > 120;
		usleep(200);
	}
	return 1000 * (time - $from);
}

sub off { fermata('destroy w'); look(0) }

sub up {
	fermata('start w');
	goes_on(1);
	usleep(200_000);
	look(0);
}

# QEMU alone, started on the same command line, until its monitor answers.
sub bare {
	my @argv = map { s/fd=([3-6])/path=$root\/$1.sock/r } @_;
	unlink glob("$root/*.sock");
	my $from = time;
	my $pid = fork() // die "fork: $!\n";
	if (!$pid) {
		open(STDOUT, '>', '/dev/null');
		open(STDERR, '>', '/dev/null');
		exec @argv or POSIX::_exit(127);
	}
	my $s;
	until ($s = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => "$root/3.sock")) {
		die "QEMU does not start\n" if time - $from > 60;
		usleep(200);
	}
	<$s>;
	print $s qq({"execute":"qmp_capabilities"}\n);
	$s->flush;
	<$s>;
	my $ms = 1000 * (time - $from);
	kill 'KILL', $pid;
	waitpid $pid, 0;
	return $ms;
}

# By the events of QEMU, while an internal checkpoint is taken.
sub savevm {
	my $s = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => "$root/run/fermata/w/events.sock") or die "no events\n";
	<$s>;
	print $s qq({"execute":"qmp_capabilities"}\n);
	$s->flush;
	<$s>;
	fermata('snapshot-create-as w vm');
	my $from = 0;
	while (my $line = <$s>) {
		my $e = decode_json($line);
		my $ms = $e->{timestamp} && 1000 * $e->{timestamp}{seconds} + $e->{timestamp}{microseconds} / 1000;
		$from = $ms if ($e->{event} // '') eq 'STOP';
		return $ms - $from if ($e->{event} // '') eq 'RESUME' && $from;
	}
}

my @argv = grep { !/^(share=|mem-path=)/ } shellwords(fermata('domdisplay-argv w') =~ s/\\\n/ /gr);
s/memory-backend-file(,id=ram0,size=\d+M),share=on,mem-path=[^,]*/memory-backend-ram$1/ for @argv;
for my $run (1 .. $runs) {
	push @{ $t{'5 bare start of QEMU, to its monitor'} }, bare(@argv);
	up();
	push @{ $t{'0 guest stands: savevm'} }, savevm();
	push @{ $t{'1 guest stands: --instant=copy'} }, stood('snapshot-create-as w copy --instant');
	fermata('snapshot-delete w copy');
	peak('snapshot-create-as w copy --instant');
	peak('snapshot-revert w copy --verify');
	peak('snapshot-create-as w delta --instant');
	off();
	fermata("snapshot-delete w $_") for qw(delta copy);
	up();
	push @{ $t{'2 guest stands: --instant=handover'} }, stood('snapshot-create-as w gold --instant=handover');
	off();
	push @{ $t{'6 goes on: instant'} }, fermata('snapshot-revert w gold', sub { goes_on(1) });
	usleep(300_000);
	look(0);
	push @{ $t{'3 guest stands: --instant, what changed'} }, stood('snapshot-create-as w more --instant');
	fermata('standby w gold');
	look(0);
	push @{ $t{'7 goes on: instant, with a standby'} }, fermata('snapshot-revert w gold', sub { goes_on(0) });
	fermata('standby w --end');
	off();
	push @{ $t{'8 goes on: instant with changes on top'} }, fermata('snapshot-revert w more', sub { goes_on(1) });
	fermata("snapshot-delete w $_") for qw(more gold);
	off();
	push @{ $t{'4 goes on: loadvm'} }, fermata('snapshot-revert w vm', sub { goes_on(1) });
	off();
	fermata('snapshot-delete w vm');
}
printf "\n%s MiB in use; %d runs, median (smallest, largest) in milliseconds\n", $size, $runs;
for (sort keys %t) {
	my @s = sort { $a <=> $b } @{ $t{$_} };
	printf "%-40s %8.1f (%.1f, %.1f)\n", substr($_, 2), $s[$#s / 2], $s[0], $s[-1];
}
printf "%-40s %8.1f MiB\n", 'most memory that a fermata took', $peak / 1024;
