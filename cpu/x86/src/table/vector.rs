//! Rows of vector instructions, and of others that run as themselves on the host.
//!
//! Those of the lists below have no flags that the manual leaves undefined and no handler of ours.

use super::{AF, OF, Operation, PF, Row, SF};
use Operation as O;
use iced_x86::Mnemonic as M;

/// The rows.
pub fn rows() -> impl Iterator<Item = Row> {
    let natives = NATIVE.iter().flat_map(|group| group.iter());
    OWN.iter().copied().chain(natives.map(|mnemonic| row(*mnemonic, O::Native, 0)))
}

const fn row(mnemonic: M, operation: O, undefined: u64) -> Row {
    Row { mnemonic, operation, undefined }
}

/// With handlers of our own, or with undefined flags.
#[rustfmt::skip]
static OWN: &[Row] = &[
    row(M::Movaps, O::MovVector, 0),
    row(M::Movups, O::MovVector, 0),
    row(M::Movapd, O::MovVector, 0),
    row(M::Movupd, O::MovVector, 0),
    row(M::Movdqa, O::MovVector, 0),
    row(M::Movdqu, O::MovVector, 0),
    row(M::Lddqu, O::MovVector, 0),
    row(M::Movntdq, O::MovVector, 0),
    row(M::Movntps, O::MovVector, 0),
    row(M::Movntpd, O::MovVector, 0),
    row(M::Movntdqa, O::MovVector, 0),
    row(M::Movss, O::MovScalar, 0),
    row(M::Movsd, O::MovScalar, 0),
    row(M::Movlps, O::MovHalf, 0),
    row(M::Movhps, O::MovHalf, 0),
    row(M::Movlpd, O::MovHalf, 0),
    row(M::Movhpd, O::MovHalf, 0),
    row(M::Movhlps, O::MovHalf, 0),
    row(M::Movlhps, O::MovHalf, 0),
    row(M::Movd, O::Movd, 0),
    row(M::Movq, O::Movd, 0),
    row(M::Pxor, O::LogicVector, 0),
    row(M::Por, O::LogicVector, 0),
    row(M::Pand, O::LogicVector, 0),
    row(M::Pandn, O::LogicVector, 0),
    row(M::Xorps, O::LogicVector, 0),
    row(M::Xorpd, O::LogicVector, 0),
    row(M::Orps, O::LogicVector, 0),
    row(M::Orpd, O::LogicVector, 0),
    row(M::Andps, O::LogicVector, 0),
    row(M::Andpd, O::LogicVector, 0),
    row(M::Andnps, O::LogicVector, 0),
    row(M::Andnpd, O::LogicVector, 0),
    row(M::Pcmpeqb, O::CompareBytes, 0),
    row(M::Pmovmskb, O::MoveMask, 0),
    row(M::Maskmovq, O::MaskedStore, 0),
    row(M::Maskmovdqu, O::MaskedStore, 0),
    row(M::Vmaskmovdqu, O::MaskedStore, 0),
    row(M::Vmaskmovps, O::MaskedMove, 0),
    row(M::Vmaskmovpd, O::MaskedMove, 0),
    row(M::Vpmaskmovd, O::MaskedMove, 0),
    row(M::Vpmaskmovq, O::MaskedMove, 0),
    row(M::Vgatherdpd, O::Gather, 0),
    row(M::Vgatherdps, O::Gather, 0),
    row(M::Vgatherqpd, O::Gather, 0),
    row(M::Vgatherqps, O::Gather, 0),
    row(M::Vpgatherdd, O::Gather, 0),
    row(M::Vpgatherdq, O::Gather, 0),
    row(M::Vpgatherqd, O::Gather, 0),
    row(M::Vpgatherqq, O::Gather, 0),
    row(M::Vzeroall, O::ZeroVectors, 0),
    row(M::Vzeroupper, O::ZeroVectors, 0),
    row(M::Vldmxcsr, O::Ldmxcsr, 0),
    row(M::Vstmxcsr, O::Stmxcsr, 0),
    row(M::Andn, O::Native, AF | PF),
    row(M::Bextr, O::Native, AF | SF | PF),
    row(M::Blsi, O::Native, AF | PF),
    row(M::Blsmsk, O::Native, AF | PF),
    row(M::Blsr, O::Native, AF | PF),
    row(M::Bzhi, O::Native, AF | PF),
    row(M::Lzcnt, O::Native, OF | SF | PF | AF),
    row(M::Tzcnt, O::Native, OF | SF | PF | AF),
];

/// The others, as the manual groups them (Intel SDM vol. 1 chapters 9 to 14).
#[rustfmt::skip]
static NATIVE: &[&[M]] = &[
    // MMX: vol. 1 §9.4
    &[
        M::Packssdw, M::Packsswb, M::Packuswb, M::Paddb, M::Paddd, M::Paddq, M::Paddsb, M::Paddsw,
        M::Paddusb, M::Paddusw, M::Paddw, M::Pcmpeqd, M::Pcmpeqw, M::Pcmpgtb, M::Pcmpgtd, M::Pcmpgtw,
        M::Pmaddwd, M::Pmulhw, M::Pmullw, M::Pslld, M::Psllq, M::Psllw, M::Psrad, M::Psraw, M::Psrld,
        M::Psrlq, M::Psrlw, M::Psubb, M::Psubd, M::Psubsb, M::Psubsw, M::Psubusb, M::Psubusw, M::Psubw,
        M::Punpckhbw, M::Punpckhdq, M::Punpckhwd, M::Punpcklbw, M::Punpckldq, M::Punpcklwd,
    ],
    // SSE: vol. 1 §10.4
    &[
        M::Addps, M::Addss, M::Cmpps, M::Cmpss, M::Comiss, M::Cvtpi2ps, M::Cvtps2pi, M::Cvtsi2ss,
        M::Cvtss2si, M::Cvttps2pi, M::Cvttss2si, M::Divps, M::Divss, M::Maxps, M::Maxss, M::Minps, M::Minss,
        M::Movmskps, M::Movntq, M::Mulps, M::Mulss, M::Pavgb, M::Pavgw, M::Pextrw, M::Pinsrw, M::Pmaxsw,
        M::Pmaxub, M::Pminsw, M::Pminub, M::Pmulhuw, M::Psadbw, M::Pshufw, M::Rcpps, M::Rcpss, M::Rsqrtps,
        M::Rsqrtss, M::Shufps, M::Sqrtps, M::Sqrtss, M::Subps, M::Subss, M::Ucomiss, M::Unpckhps,
        M::Unpcklps,
    ],
    // SSE2: vol. 1 §11.4
    &[
        M::Addpd, M::Addsd, M::Cmppd, M::Cmpsd, M::Comisd, M::Cvtdq2pd, M::Cvtdq2ps, M::Cvtpd2dq,
        M::Cvtpd2pi, M::Cvtpd2ps, M::Cvtpi2pd, M::Cvtps2dq, M::Cvtps2pd, M::Cvtsd2si, M::Cvtsd2ss,
        M::Cvtsi2sd, M::Cvtss2sd, M::Cvttpd2dq, M::Cvttpd2pi, M::Cvttps2dq, M::Cvttsd2si, M::Divpd,
        M::Divsd, M::Maxpd, M::Maxsd, M::Minpd, M::Minsd, M::Movdq2q, M::Movmskpd, M::Movnti, M::Movq2dq,
        M::Mulpd, M::Mulsd, M::Pmuludq, M::Pshufd, M::Pshufhw, M::Pshuflw, M::Pslldq, M::Psrldq, M::Psubq,
        M::Punpckhqdq, M::Punpcklqdq, M::Shufpd, M::Sqrtpd, M::Sqrtsd, M::Subpd, M::Subsd, M::Ucomisd,
        M::Unpckhpd, M::Unpcklpd,
    ],
    // SSE3, SSSE3: vol. 1 §12.4, §12.7
    &[
        M::Addsubpd, M::Addsubps, M::Haddpd, M::Haddps, M::Hsubpd, M::Hsubps, M::Movddup, M::Movshdup,
        M::Movsldup, M::Pabsb, M::Pabsd, M::Pabsw, M::Palignr, M::Phaddd, M::Phaddsw, M::Phaddw, M::Phsubd,
        M::Phsubsw, M::Phsubw, M::Pmaddubsw, M::Pmulhrsw, M::Pshufb, M::Psignb, M::Psignd, M::Psignw,
    ],
    // SSE4: vol. 1 §12.9, §12.11
    &[
        M::Blendpd, M::Blendps, M::Blendvpd, M::Blendvps, M::Dppd, M::Dpps, M::Extractps, M::Insertps,
        M::Mpsadbw, M::Packusdw, M::Pblendvb, M::Pblendw, M::Pcmpeqq, M::Pcmpestri, M::Pcmpestri64,
        M::Pcmpestrm, M::Pcmpestrm64, M::Pcmpgtq, M::Pcmpistri, M::Pcmpistrm, M::Pextrb, M::Pextrd,
        M::Pextrq, M::Phminposuw, M::Pinsrb, M::Pinsrd, M::Pinsrq, M::Pmaxsb, M::Pmaxsd, M::Pmaxud,
        M::Pmaxuw, M::Pminsb, M::Pminsd, M::Pminud, M::Pminuw, M::Pmovsxbd, M::Pmovsxbq, M::Pmovsxbw,
        M::Pmovsxdq, M::Pmovsxwd, M::Pmovsxwq, M::Pmovzxbd, M::Pmovzxbq, M::Pmovzxbw, M::Pmovzxdq,
        M::Pmovzxwd, M::Pmovzxwq, M::Pmuldq, M::Pmulld, M::Ptest, M::Roundpd, M::Roundps, M::Roundsd,
        M::Roundss,
    ],
    // AES, PCLMULQDQ, SHA, GFNI: vol. 1 §12.13, vol. 2
    &[
        M::Aesdec, M::Aesdeclast, M::Aesenc, M::Aesenclast, M::Aesimc, M::Aeskeygenassist,
        M::Gf2p8affineinvqb, M::Gf2p8affineqb, M::Gf2p8mulb, M::Pclmulqdq, M::Sha1msg1, M::Sha1msg2,
        M::Sha1nexte, M::Sha1rnds4, M::Sha256msg1, M::Sha256msg2, M::Sha256rnds2, M::Vaesdec,
        M::Vaesdeclast, M::Vaesenc, M::Vaesenclast, M::Vaesimc, M::Vaeskeygenassist, M::Vgf2p8affineinvqb,
        M::Vgf2p8affineqb, M::Vgf2p8mulb, M::Vpclmulqdq,
    ],
    // Bits: vol. 1 §5.1.16, §5.1.17
    &[
        M::Adcx, M::Adox, M::Mulx, M::Pdep, M::Pext, M::Rorx, M::Sarx, M::Shlx, M::Shrx,
    ],
    // AVX: vol. 1 §14.1
    &[
        M::Vaddpd, M::Vaddps, M::Vaddsd, M::Vaddss, M::Vaddsubpd, M::Vaddsubps, M::Vandnpd, M::Vandnps,
        M::Vandpd, M::Vandps, M::Vblendpd, M::Vblendps, M::Vblendvpd, M::Vblendvps, M::Vbroadcastf128,
        M::Vbroadcastsd, M::Vbroadcastss, M::Vcmppd, M::Vcmpps, M::Vcmpsd, M::Vcmpss, M::Vcomisd,
        M::Vcomiss, M::Vcvtdq2pd, M::Vcvtdq2ps, M::Vcvtpd2dq, M::Vcvtpd2ps, M::Vcvtps2dq, M::Vcvtps2pd,
        M::Vcvtsd2si, M::Vcvtsd2ss, M::Vcvtsi2sd, M::Vcvtsi2ss, M::Vcvtss2sd, M::Vcvtss2si, M::Vcvttpd2dq,
        M::Vcvttps2dq, M::Vcvttsd2si, M::Vcvttss2si, M::Vdivpd, M::Vdivps, M::Vdivsd, M::Vdivss, M::Vdppd,
        M::Vdpps, M::Vextractf128, M::Vextractps, M::Vhaddpd, M::Vhaddps, M::Vhsubpd, M::Vhsubps,
        M::Vinsertf128, M::Vinsertps, M::Vlddqu, M::Vmaxpd, M::Vmaxps, M::Vmaxsd, M::Vmaxss, M::Vminpd,
        M::Vminps, M::Vminsd, M::Vminss, M::Vmovapd, M::Vmovaps, M::Vmovd, M::Vmovddup, M::Vmovdqa,
        M::Vmovdqu, M::Vmovhlps, M::Vmovhpd, M::Vmovhps, M::Vmovlhps, M::Vmovlpd, M::Vmovlps, M::Vmovmskpd,
        M::Vmovmskps, M::Vmovntdq, M::Vmovntdqa, M::Vmovntpd, M::Vmovntps, M::Vmovq, M::Vmovsd,
        M::Vmovshdup, M::Vmovsldup, M::Vmovss, M::Vmovupd, M::Vmovups, M::Vmpsadbw, M::Vmulpd, M::Vmulps,
        M::Vmulsd, M::Vmulss, M::Vorpd, M::Vorps, M::Vpabsb, M::Vpabsd, M::Vpabsw, M::Vpackssdw,
        M::Vpacksswb, M::Vpackusdw, M::Vpackuswb, M::Vpaddb, M::Vpaddd, M::Vpaddq, M::Vpaddsb, M::Vpaddsw,
        M::Vpaddusb, M::Vpaddusw, M::Vpaddw, M::Vpalignr, M::Vpand, M::Vpandn, M::Vpavgb, M::Vpavgw,
        M::Vpblendvb, M::Vpblendw, M::Vpcmpeqb, M::Vpcmpeqd, M::Vpcmpeqq, M::Vpcmpeqw, M::Vpcmpestri,
        M::Vpcmpestri64, M::Vpcmpestrm, M::Vpcmpestrm64, M::Vpcmpgtb, M::Vpcmpgtd, M::Vpcmpgtq, M::Vpcmpgtw,
        M::Vpcmpistri, M::Vpcmpistrm, M::Vperm2f128, M::Vpermilpd, M::Vpermilps, M::Vpextrb, M::Vpextrd,
        M::Vpextrq, M::Vpextrw, M::Vphaddd, M::Vphaddsw, M::Vphaddw, M::Vphminposuw, M::Vphsubd,
        M::Vphsubsw, M::Vphsubw, M::Vpinsrb, M::Vpinsrd, M::Vpinsrq, M::Vpinsrw, M::Vpmaddubsw, M::Vpmaddwd,
        M::Vpmaxsb, M::Vpmaxsd, M::Vpmaxsw, M::Vpmaxub, M::Vpmaxud, M::Vpmaxuw, M::Vpminsb, M::Vpminsd,
        M::Vpminsw, M::Vpminub, M::Vpminud, M::Vpminuw, M::Vpmovmskb, M::Vpmovsxbd, M::Vpmovsxbq,
        M::Vpmovsxbw, M::Vpmovsxdq, M::Vpmovsxwd, M::Vpmovsxwq, M::Vpmovzxbd, M::Vpmovzxbq, M::Vpmovzxbw,
        M::Vpmovzxdq, M::Vpmovzxwd, M::Vpmovzxwq, M::Vpmuldq, M::Vpmulhrsw, M::Vpmulhuw, M::Vpmulhw,
        M::Vpmulld, M::Vpmullw, M::Vpmuludq, M::Vpor, M::Vpsadbw, M::Vpshufb, M::Vpshufd, M::Vpshufhw,
        M::Vpshuflw, M::Vpsignb, M::Vpsignd, M::Vpsignw, M::Vpslld, M::Vpslldq, M::Vpsllq, M::Vpsllw,
        M::Vpsrad, M::Vpsraw, M::Vpsrld, M::Vpsrldq, M::Vpsrlq, M::Vpsrlw, M::Vpsubb, M::Vpsubd, M::Vpsubq,
        M::Vpsubsb, M::Vpsubsw, M::Vpsubusb, M::Vpsubusw, M::Vpsubw, M::Vptest, M::Vpunpckhbw,
        M::Vpunpckhdq, M::Vpunpckhqdq, M::Vpunpckhwd, M::Vpunpcklbw, M::Vpunpckldq, M::Vpunpcklqdq,
        M::Vpunpcklwd, M::Vpxor, M::Vrcpps, M::Vrcpss, M::Vroundpd, M::Vroundps, M::Vroundsd, M::Vroundss,
        M::Vrsqrtps, M::Vrsqrtss, M::Vshufpd, M::Vshufps, M::Vsqrtpd, M::Vsqrtps, M::Vsqrtsd, M::Vsqrtss,
        M::Vsubpd, M::Vsubps, M::Vsubsd, M::Vsubss, M::Vtestpd, M::Vtestps, M::Vucomisd, M::Vucomiss,
        M::Vunpckhpd, M::Vunpckhps, M::Vunpcklpd, M::Vunpcklps, M::Vxorpd, M::Vxorps,
    ],
    // AVX2: vol. 1 §14.7
    &[
        M::Vbroadcasti128, M::Vextracti128, M::Vinserti128, M::Vpblendd, M::Vpbroadcastb, M::Vpbroadcastd,
        M::Vpbroadcastq, M::Vpbroadcastw, M::Vperm2i128, M::Vpermd, M::Vpermpd, M::Vpermps, M::Vpermq,
        M::Vpsllvd, M::Vpsllvq, M::Vpsravd, M::Vpsrlvd, M::Vpsrlvq,
    ],
    // FMA: vol. 1 §14.5
    &[
        M::Vfmadd132pd, M::Vfmadd132ps, M::Vfmadd132sd, M::Vfmadd132ss, M::Vfmadd213pd, M::Vfmadd213ps,
        M::Vfmadd213sd, M::Vfmadd213ss, M::Vfmadd231pd, M::Vfmadd231ps, M::Vfmadd231sd, M::Vfmadd231ss,
        M::Vfmaddsub132pd, M::Vfmaddsub132ps, M::Vfmaddsub213pd, M::Vfmaddsub213ps, M::Vfmaddsub231pd,
        M::Vfmaddsub231ps, M::Vfmsub132pd, M::Vfmsub132ps, M::Vfmsub132sd, M::Vfmsub132ss, M::Vfmsub213pd,
        M::Vfmsub213ps, M::Vfmsub213sd, M::Vfmsub213ss, M::Vfmsub231pd, M::Vfmsub231ps, M::Vfmsub231sd,
        M::Vfmsub231ss, M::Vfmsubadd132pd, M::Vfmsubadd132ps, M::Vfmsubadd213pd, M::Vfmsubadd213ps,
        M::Vfmsubadd231pd, M::Vfmsubadd231ps, M::Vfnmadd132pd, M::Vfnmadd132ps, M::Vfnmadd132sd,
        M::Vfnmadd132ss, M::Vfnmadd213pd, M::Vfnmadd213ps, M::Vfnmadd213sd, M::Vfnmadd213ss,
        M::Vfnmadd231pd, M::Vfnmadd231ps, M::Vfnmadd231sd, M::Vfnmadd231ss, M::Vfnmsub132pd,
        M::Vfnmsub132ps, M::Vfnmsub132sd, M::Vfnmsub132ss, M::Vfnmsub213pd, M::Vfnmsub213ps,
        M::Vfnmsub213sd, M::Vfnmsub213ss, M::Vfnmsub231pd, M::Vfnmsub231ps, M::Vfnmsub231sd, M::Vfnmsub231ss,
    ],
    // Half precision: vol. 1 §14.4
    &[
        M::Vcvtph2ps, M::Vcvtps2ph,
    ],
];
