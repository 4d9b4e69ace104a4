#!/usr/bin/perl
# The measuring half of live.sh: EVENTS-SOCKET RUNS DIR
use strict;
use warnings;
use IO::Socket::UNIX;
use JSON::PP;
use Time::HiRes qw(time sleep);

my ($path, $runs, $dir) = @ARGV;
open(my $out, '>&', \*STDOUT) or die;
open(STDOUT, '>', '/dev/null') or die; # the commands' own
my $s = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $path) or die "cannot connect to $path: $!\n";
<$s>;
print $s qq({"execute":"qmp_capabilities"}\n);
$s->flush;
<$s>;

sub run {
	my @command = @_;
	my $from = time;
	system($ENV{FERMATA}, @command) == 0 or die "@command: failed\n";
	return 1000 * (time - $from);
}
# From the last STOP to the RESUME behind it, of what has happened since the last call.
sub stood {
	my ($from, $sum) = (undef, 0);
	print $s qq({"execute":"query-status","id":"mark"}\n);
	$s->flush;
	while (my $line = <$s>) {
		my $m = decode_json($line);
		return $sum if ($m->{id} // '') eq 'mark';
		my $at = 1000 * ($m->{timestamp}{seconds} // 0) + ($m->{timestamp}{microseconds} // 0) / 1000;
		$from = $at if ($m->{event} // '') eq 'STOP';
		($sum, $from) = ($sum + $at - $from, undef) if ($m->{event} // '') eq 'RESUME' && $from;
	}
	die "QEMU is gone\n";
}
sub median { my @t = sort { $a <=> $b } @_; return $t[$#t / 2] }
sub say_row {
	my ($name, @t) = @_;
	@t = sort { $a <=> $b } @t;
	printf $out "%-46s %8.1f (%.1f, %.1f)\n", $name, median(@t), $t[0], $t[-1];
}

my %t;
stood();
for my $i (1 .. $runs) {
	for my $c (['--live', '--live', '--memspec', "$dir/l$i.mem"], ['external', '--memspec', "$dir/e$i.mem"], ['internal (savevm)']) {
		my ($name, @args) = @$c;
		my $wall = run('snapshot-create-as', 'w', "k$i", @args);
		push @{ $t{"$name: the guest stood"} }, stood();
		push @{ $t{"$name: all of it"} }, $wall;
		run('snapshot-delete', 'w', "k$i");
		stood();
		sleep 0.2;
	}
}
say_row($_, @{ $t{$_} }) for sort keys %t;
printf $out "%-46s %8.1f\n", 'savevm stands longer, times',
	median(@{ $t{'internal (savevm): the guest stood'} }) / median(@{ $t{'--live: the guest stood'} });
