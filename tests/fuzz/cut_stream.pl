#!/usr/bin/perl
# Make a small input for fuzz_stream of a migration stream that QEMU has written:
#
#	tests/fuzz/cut_stream.pl STREAM >tests/fuzz/corpus/stream/NAME
#
# It stays a stream: the guest's memory has 8 pages left, every other block of memory its first two, and of the devices
# only a few are kept, each in full but for the description of its fields.
use strict;
use warnings;
use JSON::PP;

my ($page, $ram) = (4096, 8);
open(my $in, '<:raw', $ARGV[0] // die "usage: cut_stream.pl STREAM\n") or die "$ARGV[0]: $!\n";
my $all = do { local $/; <$in> };
my ($at, $out) = (0, '');
my (%keep, %seen, $mapped, $last, $put);

sub take { $at += $_[0]; return substr($all, $at - $_[0], $_[0]) }
sub num { return unpack 'Q>', substr("\0" x 8 . take($_[0]), -8) }
sub name { return take(num(1)) }

# The list of blocks, where those of mapped-ram have their pages between them
sub blocks {
	my $left = shift;
	my (@list, $sum);
	while ($left) {
		my %b = (name => name(), size => num(8));
		$left -= $b{size};
		$b{kept} = $keep{$b{name}} = $page * ($b{name} eq 'ram0' ? $ram : 1);
		$sum += $b{kept};
		if ($mapped) {
			num(4), num(8);
			my ($bits, $pages) = (num(8), num(8));
			$b{bits} = substr($all, $bits, 8);
			$b{pages} = substr($all, $pages, $b{kept});
			$at = $pages + $b{size};
		}
		push @list, \%b;
	}
	$out .= pack 'Q>', $sum | 4;
	for my $b (@list) {
		$out .= pack 'C/a Q>', $b->{name}, $b->{kept};
		next unless $mapped;
		my $bits = length($out) + 28;
		$out .= pack('N Q>3', 1, $page, $bits, $bits + 8) . $b->{bits} . $b->{pages};
	}
}

sub ram {
	for (;;) {
		my $v = num(8);
		my ($flags, $off) = ($v % $page, $v - $v % $page);
		if ($flags == 4) { blocks($off); next }
		if ($flags == 0x10) { $out .= pack 'Q>', $v; return }
		if ($flags == 0x200) { $out .= pack 'Q>', $v; next }
		$last = name() unless $flags & 0x20;
		my $data = take($flags & 8 ? $page : 1);
		next if $off >= $keep{$last} or $seen{"$last $v"}++;
		my $same = defined $put && $put eq $last;
		$out .= pack('Q>', $off | ($flags & ~0x20) | ($same ? 0x20 : 0)) . ($same ? '' : pack 'C/a', $last) . $data;
		$put = $last;
	}
}

$out = take(8);
for (;;) {
	my $type = num(1);
	if ($type == 4) { $at--; last }
	my $from = $at - 1;
	if ($type == 7) { take(num(4)) }
	elsif ($type == 8) { take(2); take(num(2)) }
	elsif ($type == 5) {
		die "a subsection\n" unless name() eq 'configuration/capabilities';
		num(4);
		for (1 .. num(4)) { $mapped = 1 if name() eq 'mapped-ram' }
	} else {
		num(4);
		name(), num(4), num(4) if $type == 1;
		$out .= substr($all, $from, $at - $from);
		ram();
		$out .= take(5);
		next;
	}
	$out .= substr($all, $from, $at - $from);
}

my $text = rindex $all, "\0\6";
$text-- until unpack('N', substr($all, $text + 2, 4)) == length($all) - $text - 6 and substr($all, $text, 2) eq "\0\6";
my @devices = @{decode_json(substr $all, $text + 6)->{devices}};
my @heads = map { pack 'C/a N', $_->{name}, $_->{instance_id} } @devices;
my @kept;
for my $i (0 .. $#devices) {
	my $next = $i < $#devices ? index($all, $heads[$i + 1], $at + 5 + length $heads[$i]) - 5 : $text;
	if ($devices[$i]{name} =~ /^(timer|i8259|serial|globalstate)$/) {
		$out .= substr $all, $at, $next - $at;
		push @kept, { map { $_ => $devices[$i]{$_} } qw(name instance_id) };
	}
	$at = $next;
}
my $json = JSON::PP->new->canonical->encode({ page_size => $page, devices => \@kept });
binmode STDOUT;
print $out, "\0\6", pack('N/a', $json);
